"""A certificate authority of the story's own, and a certificate for 127.0.0.1."""

from . import env, proc


class Authority:
    """Makes ca.pem (for the client) and server.pem (key and certificate, for the server)."""

    def __init__(self):
        self.folder = env.folder("tls")
        self.ca = self.folder / "ca.pem"
        self.server = self.folder / "server.pem"
        self._make()

    def _make(self):
        here = self.folder
        ext = here / "ext"
        ext.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", here / "ca.key",
                      "-out", self.ca, "-subj", "/CN=xcpfs test authority", "-days", "30")
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", here / "server.key",
                      "-out", here / "server.csr", "-subj", "/CN=127.0.0.1")
        self._openssl("x509", "-req", "-in", here / "server.csr", "-CA", self.ca, "-CAkey",
                      here / "ca.key", "-CAcreateserial", "-out", here / "server.crt", "-days",
                      "30", "-extfile", ext)
        self.server.write_text((here / "server.key").read_text()
                               + (here / "server.crt").read_text())

    @staticmethod
    def _openssl(*args):
        done = proc.run("openssl", *args)
        if done.rc:
            raise RuntimeError(f"openssl: {done.err}")
