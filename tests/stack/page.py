"""Tables that a command makes stand in a page between two marks."""


def put_between(page, begin, end, text):
    """Replaces what stands between the marks in the file `page`; the rest stays as it is."""
    before, _, rest = page.read_text().partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")
