"""Upload one file as an artifact, zipped, to the server of the tests."""

import io
import os
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

file = Path(os.environ["FILE"])
data = io.BytesIO()
with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.write(file, file.name)
name = urllib.parse.quote(os.environ["NAME"], safe="")
url = f"{os.environ['GITHUB_API_URL']}/upload/{os.environ['GITHUB_RUN_ID']}/{name}"
urllib.request.urlopen(urllib.request.Request(url, data.getvalue(), method="PUT")).close()
