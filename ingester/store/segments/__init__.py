"""Raw mails in segments: files of one directory of this host, to which the bytes of a commit are appended together.

    DIR/STORE               whose directory this is (`deed`)
    DIR/<segment>.seg       a head, then records: a header and the raw bytes of one mail for one tenant each (`record`)
    DIR/<segment>.seal      nothing is appended any more; the checksum of all headers, and so of all bytes (`shelf`)
    DIR/<segment>.new       a compaction under way, or what is left of one (`compacting`)

A row of `raws` names a record by its URL, `file:///DIR/<segment>/<offset>`. Whoever appends holds a lock (flock) on the
segment for as long as it lives: an unsealed segment without one has lost its writer, and is cut and sealed (`tending`).
"""
