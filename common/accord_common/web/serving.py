"""Files over HTTP, for either process's application.

Guarantees: only what `Assets` lists is served, and each answer may be kept for ever.
"""

from starlette.requests import Request
from starlette.responses import Response

from accord_common.web.assets import Assets

_FOR_EVER = "public, max-age=31536000, immutable"


def serve(assets: Assets, request: Request) -> Response:
    """Answer a GET under `PREFIX`; 404 for what is no file of ours."""
    asset = assets.at(request.url.path)
    if asset is None:
        return Response("no such file", status_code=404, media_type="text/plain")
    headers = {"Cache-Control": _FOR_EVER, "Vary": "Accept-Encoding"}
    body = asset.body
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        body = asset.compressed
    return Response(body, headers=headers, media_type=asset.kind)
