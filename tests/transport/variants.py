"""The ends of data that some server takes for CRLF.CRLF (issue 2)."""

VARIANTS = {
    "LF.LF": b"\n.\n",
    "LF.CRLF": b"\n.\r\n",
    "CR.CR": b"\r.\r",
    "CR.LF": b"\r.\n",
    "LF.CR": b"\n.\r",
    "CR.CRLF": b"\r.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CRLF.CR": b"\r\n.\rX",
    "CRLF NUL .CRLF": b"\r\n\0.\r\n",
    "CRLF. NUL CRLF": b"\r\n.\0\r\n",
    "NUL CRLF.CRLF": b"\0\r\n.\r\n",
    "CR NUL LF.CRLF": b"\r\0\n.\r\n",
    "CRLF.CR NUL LF": b"\r\n.\r\0\n",
    "CRLF.CRLF NUL": b"\r\n.\r\n\0",
    "CR CRLF.CRLF": b"\r\r\n.\r\n",
}
"""Behind CRLF.CR stands one more octet: alone it may still become the true end."""
