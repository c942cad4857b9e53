"""The few words of DNS that nginx needs: which addresses a name has now. In the stack it is Docker that says so."""

import socket
import struct
import threading

NO_SUCH_NAME = 3
ADDRESS = 1


class Names:
    def __init__(self, address):
        self.addresses = {}
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.server = f"{address}:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def add(self, name, address):
        self.addresses[name] = [*self.of(name), address]

    def remove(self, name, address):
        self.addresses[name] = [known for known in self.of(name) if known != address]

    def of(self, name):
        return self.addresses.get(name, [])

    def serve(self):
        while True:
            query, client = self.socket.recvfrom(512)
            if not query:
                return
            self.socket.sendto(self.answer(query), client)

    def answer(self, query):
        """RFC 1035, section 4: the question comes back, with the addresses behind it."""
        end, labels = 12, []
        while length := query[end]:
            labels.append(query[end + 1 : end + 1 + length].decode())
            end += 1 + length
        end += 5  # the empty label, the type, the class
        found = self.of(".".join(labels))
        header = struct.pack("!2sHHHHH", query[:2], 0x8180 | (0 if found else NO_SUCH_NAME), 1, len(found), 0, 0)
        records = [struct.pack("!HHHIH4s", 0xC00C, ADDRESS, 1, 1, 4, socket.inet_aton(address)) for address in found]
        return header + query[12:end] + b"".join(records)

    def stop(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.socket.getsockname())
        self.thread.join()
        self.socket.close()
