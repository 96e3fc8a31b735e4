"""Everything that knows HTTP: routes, request bodies, admission, responses, downloads and error documents."""
