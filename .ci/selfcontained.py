"Fail unless an HTML file can be read without a network and any other file: `python selfcontained.py report.html`"
import re, sys
from html.parser import HTMLParser
from pathlib import Path

class Resources(HTMLParser):
    "Addresses that a browser fetches to show the page; links a reader may follow are no resources"
    def __init__(self):
        super().__init__()
        self.found = []
    def handle_starttag(self, tag, attrs):
        names = {'src', 'srcset', 'poster', 'data'}
        if tag in ('link', 'use', 'image'): names |= {'href', 'xlink:href'}
        self.found += [v or '' for k, v in attrs if k in names]

text = Path(sys.argv[1]).read_text(encoding='utf-8')
page = Resources()
page.feed(text)
style = re.findall(r'url\(\s*["\']?([^)"\']+)', text) + re.findall(r'@import\s+["\']([^"\']+)', text)
outside = [a for a in page.found + style if not a.startswith(('data:', '#'))]
if outside: sys.exit(f'{len(outside)} resources outside the file: {outside[:5]}')
