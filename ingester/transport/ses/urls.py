"""The two URLs that an SNS message names: where its certificate is, and where a subscription is confirmed. Pure.

A message says of itself where its proof is, so a URL counts only where Amazon alone can put something. That is the very
host of the topic's region and nothing like it: `sns.s3.amazonaws.com`, for one, is a bucket that somebody called sns.
"""

import re
from typing import Final
from urllib.parse import parse_qsl

MAX_URL: Final = 2048
_ARN: Final = re.compile(r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z]{2}(?:-[a-z]{2,12}){1,2}-[0-9]{1,2}):[!-~]{1,300}")
_CERTIFICATE: Final = re.compile(r"/SimpleNotificationService-[0-9a-f]{16,64}\.pem")


def host_of(topic_arn: str) -> str | None:
    """The host of SNS in the region of a topic; None where the ARN names no region that we know the host of."""
    found = _ARN.fullmatch(topic_arn)
    if found is None:
        return None
    partition, region = found.groups()
    return f"sns.{region}.amazonaws.com.cn" if partition == "aws-cn" else f"sns.{region}.amazonaws.com"


def names_certificate(url: str, topic_arn: str) -> bool:
    """Whether a SigningCertURL is one of SNS for this topic."""
    rest = _after_host(url, topic_arn)
    return rest is not None and _CERTIFICATE.fullmatch(rest) is not None


def confirms(url: str, topic_arn: str, token: str) -> bool:
    """Whether a SubscribeURL does one thing only: confirm the subscription to this topic with this token."""
    rest = _after_host(url, topic_arn)
    if rest is None or not rest.startswith("/?"):
        return False
    try:
        said = parse_qsl(rest[2:], strict_parsing=True, max_num_fields=3)
    except ValueError:
        return False
    # Each field once and nothing else, so that no character is left that could mean something elsewhere.
    wanted = [("Action", "ConfirmSubscription"), ("Token", token), ("TopicArn", topic_arn)]
    return sorted(said) == wanted


def _after_host(url: str, topic_arn: str) -> str | None:
    """What follows the host that it must be; nothing else may stand between (a user, a port, a dot)."""
    host = host_of(topic_arn)
    if host is None or len(url) > MAX_URL or not url.startswith(f"https://{host}/"):
        return None
    return url.removeprefix(f"https://{host}")
