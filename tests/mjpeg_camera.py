"""A camera in the network for tests: MJPEG over HTTP, as many speak it."""

from __future__ import annotations

import http.server
import io
import threading
import time

import numpy as np
from PIL import Image


class MjpegCamera:
    """Shows `frame` some 50 times a second until it is stopped."""

    def __init__(self, frame: np.ndarray, port: int = 0) -> None:
        self.show(frame)
        self._stopped = False
        ours = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                while not ours._stopped:
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(ours._jpeg)}\r\n\r\n"
                    try:
                        self.wfile.write(head.encode() + ours._jpeg + b"\r\n")
                    except OSError:
                        return
                    time.sleep(0.02)

            def log_message(self, *_: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/video"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def show(self, frame: np.ndarray) -> None:
        content = io.BytesIO()
        Image.fromarray(frame).save(content, "JPEG", quality=95)
        self._jpeg = content.getvalue()

    def stop(self) -> None:
        self._stopped = True
        self._server.shutdown()
        self._server.server_close()
