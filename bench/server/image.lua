-- One image a request, as raw values behind the JSON that is HEADER bytes long.
local file = io.open(os.getenv("BODY"), "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["content-type"] = "application/octet-stream"
wrk.headers["inference-header-content-length"] = os.getenv("HEADER")
