"""The HTTP layer: routes, request bodies, admission, responses, downloads and error documents."""
