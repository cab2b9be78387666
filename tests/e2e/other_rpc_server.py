"""In the place of a ggml-rpc-server of another version, as far as a master gets with it: it answers RPC's HELLO.

-H and -p as the real one's; --answer V9.1.2: as today's builds do (28 bytes); --answer V3.0.0-short: with the version alone,
as builds did before (3 bytes); --answer hang-up: it takes today's HELLO for none, says so and closes, as those builds do.
"""
import argparse
import socket
import struct

HELLO = 14


def receive(line, count):
    data = b""
    while len(data) < count:
        more = line.recv(count - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data


def serve(line, answer):
    while True:
        command, size = struct.unpack("<BQ", receive(line, 9))
        receive(line, size)
        if answer == "hang-up":
            print(f"HELLO request size mismatch ({size} vs 0) - client needs upgrade to protocol v9.x", flush=True)
            return
        assert command == HELLO, command
        version = bytes(map(int, answer.lstrip("V").removesuffix("-short").split(".")))
        body = version if answer.endswith("-short") else version + bytes(25)
        line.sendall(struct.pack("<Q", len(body)) + body)


def main():
    words = argparse.ArgumentParser()
    words.add_argument("-H", dest="host")
    words.add_argument("-p", dest="port", type=int)
    words.add_argument("--answer")
    given, _ = words.parse_known_args()
    with socket.create_server((given.host, given.port), backlog=1) as listener:
        while True:
            line, _ = listener.accept()
            with line:
                try:
                    serve(line, given.answer)
                except OSError:
                    pass


main()
