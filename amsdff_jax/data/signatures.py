"""Names a file by its first bytes, where its name says something else."""

import re

SIGNATURE_BYTES = 4096  # of the beginning of a file are looked at

# From the first that fits. Only what no text begins with: a header may well be `PK` or `BZh`.
_SIGNATURES = (
    (rb"\xff\xfe\0\0|\0\0\xfe\xff", "UTF-32 text; save it as UTF-8"),
    (rb"\xff\xfe|\xfe\xff|(?:[^\0]\0){4}|(?:\0[^\0]){4}", "UTF-16 text; save it as UTF-8"),
    (rb"\x1f\x8b", "gzip; its name must end in .gz, once for every time it is packed"),
    (
        rb"PK\x03\x04.*(?:\[Content_Types\]\.xml|_rels/|opendocument)",
        "an Excel workbook or another office document; save its sheet as CSV (UTF-8)",
    ),
    (rb"PK(?:\x03\x04|\x05\x06)", "a zip archive; unpack it"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook or office document; save its sheet as CSV (UTF-8)"),
    (rb"PAR1[\x00-\x1f]|PARE", "Parquet; its name must end in .parquet"),
    (rb"ARROW1|\xff\xff\xff\xff|FEA1[\x00-\x1f]", "Arrow or Feather; write it as Parquet"),
    (rb"SQLite format 3\0", "an SQLite database; export its table as CSV"),
    (rb"%PDF-", "a PDF document; extract its text"),
    (rb"BZh[1-9]1AY&SY", "bzip2; unpack it, or pack it with gzip"),
    (rb"\xfd7zXZ\0", "xz; unpack it, or pack it with gzip"),
    (rb"\x28\xb5\x2f\xfd", "zstd; its name must end in .zst, once for every time it is packed"),
    (rb"7z\xbc\xaf\x27\x1c|Rar!\x1a\x07", "a 7z or RAR archive; unpack it"),
    (rb".{257}ustar(?:\0|  \0)", "a tar archive; unpack it"),
    (rb"\x80[\x02-\x05][\x80-\xff}\](c]", "a Python pickle; write it as CSV or Parquet"),
    (rb"\x93NUMPY|\x89HDF\r\n|Obj\x01|ORC[\x00-\x1f]", "a NumPy, HDF5, Avro or ORC file; write it as CSV or Parquet"),
    (rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a", "a picture"),
    (rb"version https://git-lfs\.github\.com/spec/", "a Git LFS pointer, not the file; fetch it with `git lfs pull`"),
    (rb"(?i:(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|\?xml))", "HTML or XML, perhaps of a failed download"),
    (rb"\{\\rtf", "an RTF document; save it as plain text"),
)


def name_format(head: bytes) -> str:
    """What a file is, with the way out, such as "a zip archive; unpack it"; "": nothing that is known, perhaps text.

    Args:
      head: its first `SIGNATURE_BYTES`, or all if it is shorter.
    """
    return next((name for pattern, name in _SIGNATURES if re.match(pattern, head, re.DOTALL)), "")
