"""Amazon SES: mail that it received and events of mail that it sent, by SNS notifications and S3 objects."""
