"""The two URLs of an SNS message: Amazon's own, and all that merely look so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.transport.ses.urls import MAX_URL, confirms, host_of, names_certificate
from tests.cost import assert_cheap
from tests.sns import TOPIC

HOST = "sns.eu-west-1.amazonaws.com"
PATH = "/SimpleNotificationService-d6d679a1d18e95c2f9ffcf11f4f9e198.pem"
TOKEN = "2336412f37fb687f" * 10
QUERY = f"Action=ConfirmSubscription&TopicArn={TOPIC}&Token={TOKEN}"

HOSTS_OF_OTHERS = [
    "http://sns.eu-west-1.amazonaws.com",
    "HTTPS://sns.eu-west-1.amazonaws.com",
    "ftp://sns.eu-west-1.amazonaws.com",
    "//sns.eu-west-1.amazonaws.com",
    " https://sns.eu-west-1.amazonaws.com",
    "https:/sns.eu-west-1.amazonaws.com",
    "https:\\\\sns.eu-west-1.amazonaws.com",
    "https://sns.eu-west-1.amazonaws.com.evil.test",
    "https://sns.eu-west-1.amazonaws.com.",
    "https://sns.eu-west-1.amazonaws.com.cn",
    "https://sns.eu-west-1.amazonaws.co",
    "https://sns.eu-west-1.amazonaws.com:443",
    "https://sns.eu-west-1.amazonaws.com:8443",
    "https://sns.eu-west-1.amazonaws.com:",
    "https://user@sns.eu-west-1.amazonaws.com",
    "https://user:word@sns.eu-west-1.amazonaws.com",
    "https://sns.eu-west-1.amazonaws.com@evil.test",
    "https://sns.eu-west-1.amazonaws.com%40evil.test",
    "https://sns.eu-west-1.amazonaws.com\\.evil.test",
    "https://sns.eu-west-1.amazonaws.com\\@evil.test",
    "https://sns.eu-west-1.amazonaws.com%2f.evil.test",
    "https://sns.eu-west-1.amazonaws.com%00.evil.test",
    "https://sns.eu-west-1.amazonaws.com\x00.evil.test",
    "https://sns.eu-west-1.amazonaws.com\n.evil.test",
    "https://sns.eu-west-1.amazonaws.com?x=",
    "https://sns.eu-west-1.amazonaws.com#",
    "https://evil.test/sns.eu-west-1.amazonaws.com",
    "https://evil.test#sns.eu-west-1.amazonaws.com",
    "https://evil.test?sns.eu-west-1.amazonaws.com",
    "https://Sns.eu-west-1.amazonaws.com",
    "https://SNS.EU-WEST-1.AMAZONAWS.COM",
    "https://sns.eu\u2010west-1.amazonaws.com",
    "https://sns\u3002eu-west-1\u3002amazonaws\u3002com",
    "https://sns.eu-west-1.amaz\u043enaws.com",
    "https://\uff53ns.eu-west-1.amazonaws.com",
    "https://sns.eu-west-1%2eamazonaws.com",
    "https://s%6es.eu-west-1.amazonaws.com",
    "https://sns.us-east-1.amazonaws.com",  # of another region than the topic
    "https://sns.s3.amazonaws.com",  # a bucket that is called sns
    "https://sns.s3-eu-west-1.amazonaws.com",
    "https://sns.s3.eu-west-1.amazonaws.com",
    "https://sns-eu-west-1.amazonaws.com",
    "https://sqs.eu-west-1.amazonaws.com",
    "https://evil.sns.eu-west-1.amazonaws.com",
    "https://sns.amazonaws.com",
    "https://sns..amazonaws.com",
    "https://127.0.0.1",
    "https://[::1]",
    "https://",
    "",
]


@pytest.mark.parametrize(
    ("arn", "host"),
    [
        (TOPIC, HOST),
        ("arn:aws:sns:us-east-1:123456789012:a", "sns.us-east-1.amazonaws.com"),
        ("arn:aws:sns:ap-southeast-4:123456789012:a", "sns.ap-southeast-4.amazonaws.com"),
        ("arn:aws-us-gov:sns:us-gov-west-1:123456789012:a", "sns.us-gov-west-1.amazonaws.com"),
        ("arn:aws-cn:sns:cn-north-1:123456789012:a", "sns.cn-north-1.amazonaws.com.cn"),
        ("arn:aws-iso:sns:us-iso-east-1:123456789012:a", None),
        ("arn:aws:sqs:eu-west-1:123456789012:a", None),
        ("arn:aws:sns:s3:123456789012:a", None),
        ("arn:aws:sns:s3-eu-west-1:123456789012:a", None),
        ("arn:aws:sns:eu-s3-1:123456789012:a", None),
        ("arn:aws:sns:eu-a-b-c-1:123456789012:a", None),
        ("arn:aws:sns:eu-west-1.evil.test/:123456789012:a", None),
        ("arn:aws:sns:eu-west-1\n:123456789012:a", None),
        ("arn:aws:sns:EU-WEST-1:123456789012:a", None),
        ("arn:aws:sns::123456789012:a", None),
        ("", None),
    ],
)
def test_the_region_of_a_topic_has_one_host(arn: str, host: str | None) -> None:
    assert host_of(arn) == host


def test_amazon_s_own_urls_are_taken() -> None:
    assert names_certificate(f"https://{HOST}{PATH}", TOPIC)
    assert confirms(f"https://{HOST}/?{QUERY}", TOPIC, TOKEN)
    china = TOPIC.replace("aws:", "aws-cn:").replace("eu-west-1", "cn-northwest-1")
    assert names_certificate(f"https://sns.cn-northwest-1.amazonaws.com.cn{PATH}", china)
    assert not names_certificate(f"https://sns.cn-northwest-1.amazonaws.com{PATH}", china)


def test_the_order_and_the_encoding_of_a_query_are_free() -> None:
    arn = TOPIC.replace(":", "%3A")
    assert confirms(f"https://{HOST}/?Token={TOKEN}&TopicArn={arn}&Action=ConfirmSubscription", TOPIC, TOKEN)


@pytest.mark.parametrize("origin", HOSTS_OF_OTHERS)
def test_a_host_that_is_not_amazon_s_is_not_taken(origin: str) -> None:
    assert not names_certificate(origin + PATH, TOPIC)
    assert not confirms(f"{origin}/?{QUERY}", TOPIC, TOKEN)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/SimpleNotificationService-.pem",
        "/SimpleNotificationService.pem",
        "/SimpleNotificationService-d6d679a1d18e95c2f9ffcf11f4f9e198",
        "/SimpleNotificationService-d6d679a1d18e95c2f9ffcf11f4f9e198.pem\n",
        "/SimpleNotificationService-d6d679a1d18e95c2f9ffcf11f4f9e198.pem/",
        "/SimpleNotificationService-d6d679a1d18e95c2f9ffcf11f4f9e198.pem?",
        "/SimpleNotificationService-d6d679a1d18e95c2f9ffcf11f4f9e198.pem?x=y",
        "/SimpleNotificationService-d6d679a1d18e95c2f9ffcf11f4f9e198.pem#x",
        "/SimpleNotificationService-d6d679a1d18e95c2f9ffcf11f4f9e198.pem;x",
        "/SimpleNotificationService-d6d679a1d18e95c2f9ffcf11f4f9e198%2epem",
        "/SimpleNotificationService-D6D679A1D18E95C2F9FFCF11F4F9E198.pem",
        "/SimpleNotificationService-../../evil.pem",
        "/SimpleNotificationService-d6d679a1d18e95c2/../../evil.pem",
        "/x/../SimpleNotificationService-d6d679a1d18e95c2f9ffcf11f4f9e198.pem",
        "//SimpleNotificationService-d6d679a1d18e95c2f9ffcf11f4f9e198.pem",
        "/.//evil.test/SimpleNotificationService-d6d679a1d18e95c2f9ffcf11f4f9e198.pem",
        "/@evil.test/SimpleNotificationService-d6d679a1d18e95c2f9ffcf11f4f9e198.pem",
        "\\SimpleNotificationService-d6d679a1d18e95c2f9ffcf11f4f9e198.pem",
        "/evil.pem",
        "/?Action=Publish&x=.pem",
        "/SimpleNotificationService-" + "a" * 65 + ".pem",
        "/SimpleNotificationService-\u0661" + "a" * 31 + ".pem",
    ],
)
def test_a_certificate_has_one_form_of_path(path: str) -> None:
    assert not names_certificate(f"https://{HOST}{path}", TOPIC)


@pytest.mark.parametrize(
    "rest",
    [
        f"?{QUERY}",
        f"/x?{QUERY}",
        f"/../?{QUERY}",
        f"/?{QUERY}#x",
        f"/?{QUERY}&",
        f"/?&{QUERY}",
        f"/?{QUERY}&x=y",
        f"/?{QUERY}&Action=Publish",
        f"/?{QUERY}&AuthenticateOnUnsubscribe=true",
        f"/?{QUERY};Action=Publish",
        f"/?{QUERY}\n",
        f"/?{QUERY}%0a",
        f"/?{QUERY} ",
        f"/?{QUERY}x",
        f"/?{QUERY.replace('Confirm', 'confirm')}",
        f"/?{QUERY.replace('ConfirmSubscription', 'DeleteTopic')}",
        f"/?{QUERY.replace('ConfirmSubscription', 'Unsubscribe')}",
        f"/?{QUERY.replace('inbound', 'other')}",
        f"/?{QUERY.replace('eu-west-1', 'eu-west-2')}",
        f"/?{QUERY.replace('TopicArn', 'topicarn')}",
        f"/?{QUERY.replace('Token', 'Tok%65m')}",
        f"/?{QUERY.partition('&Token')[0]}",
        f"/?Action=ConfirmSubscription&Token={TOKEN}&Token={TOKEN}",
        f"/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=",
        "/?",
        "/",
        "",
    ],
)
def test_a_subscription_is_confirmed_by_one_form_of_query(rest: str) -> None:
    assert not confirms(f"https://{HOST}{rest}", TOPIC, TOKEN)


def test_a_token_is_that_of_the_message() -> None:
    assert not confirms(f"https://{HOST}/?{QUERY}", TOPIC, TOKEN[:-1])


@given(st.text(), st.text(), st.text())
def test_any_text_has_an_answer(url: str, arn: str, token: str) -> None:
    assert not names_certificate(url, arn)
    assert not names_certificate(f"https://{HOST}{url}", TOPIC)
    assert not confirms(f"https://{HOST}/?{url}", TOPIC, token)
    host_of(arn)


def test_the_worst_urls_cost_little() -> None:
    arns = ["arn:aws:sns:" + "a-" * 100_000, "arn:aws:sns:eu-west-1:" + "a" * 100_000 + "\n"]
    queries = ["&" * MAX_URL, "a=b&" * 500, "%" * 1900, "=" * 1900]

    def ask() -> None:
        for arn in arns:
            assert host_of(arn) is None
        for query in queries:
            assert not confirms(f"https://{HOST}/?{query}", TOPIC, TOKEN)
        assert not names_certificate(f"https://{HOST}/SimpleNotificationService-{'a' * 1_000_000}", TOPIC)

    assert_cheap(ask, seconds=0.01)
