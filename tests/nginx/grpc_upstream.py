"""The two ends of one gRPC call, as far as a balancer can tell: HTTP/2 without TLS, a body in pieces, trailers."""

import socket
import threading

import h2.config
import h2.connection
import h2.events


class End:
    """What one end hears, as soon as it hears it."""

    def __init__(self, connection, client_side):
        self.socket = connection
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=client_side, header_encoding="utf-8"))
        self.http.initiate_connection()
        self.headers, self.trailers, self.body = {}, {}, b""

    def send(self):
        self.socket.sendall(self.http.data_to_send())

    def hear(self):
        """Until the other side's stream has ended; gives the number of the stream."""
        self.send()
        while data := self.socket.recv(65536):
            for event in self.http.receive_data(data):
                match event:
                    case h2.events.RequestReceived() | h2.events.ResponseReceived():
                        self.headers = dict(event.headers)
                    case h2.events.DataReceived():
                        self.body += event.data
                    case h2.events.TrailersReceived():
                        self.trailers = dict(event.headers)
                    case h2.events.StreamEnded():
                        self.send()
                        return event.stream_id
            self.send()
        raise EOFError(f"ended early, after {self.headers} {self.body}")


class GrpcUpstream:
    """Takes one call, on a connection that stays open afterwards."""

    def __init__(self, address, port, answers):
        self.listener = socket.create_server((address, port))
        self.listener.settimeout(20)
        self.answers = answers
        self.thread = threading.Thread(target=self.serve)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.connection.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.connection.close()

    def serve(self):
        with self.listener:
            self.connection, _ = self.listener.accept()
        end = End(self.connection, client_side=False)
        stream = end.hear()
        self.headers, self.body = end.headers, end.body
        end.http.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        for answer in self.answers:
            end.http.send_data(stream, answer)
            end.send()
        end.http.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        end.send()
        while self.connection.recv(65536):
            pass


def call(address, port, path, body):
    """What the client heard."""
    headers = {":method": "POST", ":scheme": "http", ":authority": f"{address}:{port}", ":path": path}
    with socket.create_connection((address, port), timeout=30) as connection:
        end = End(connection, client_side=True)
        end.http.send_headers(1, [*headers.items(), ("content-type", "application/grpc"), ("te", "trailers")])
        end.http.send_data(1, body, end_stream=True)
        end.hear()
        return end
