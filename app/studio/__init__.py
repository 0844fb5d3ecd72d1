"""The server behind the studio: visits, live takes and the WebSocket that steers them."""
