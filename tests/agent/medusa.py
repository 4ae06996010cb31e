"""Runs Python programs with Medusa in reach, each in a fork of this process: it has imported Medusa, which takes a second."""
# First of all, as in Medusa's own program: it exchanges sockets and threads for gevent's.
import medusa.medusacli  # isort: skip
import medusa.backup_node  # isort: skip

import json
import logging
import os
import socketserver
import sys
import threading
import traceback

# A backup of Medusa's makes way for everything else on the machine (nice 19, idle I/O), here for all tests beside it: it
# would last for as long as they do.
medusa.backup_node.throttle_backup = lambda: None


def ran(program):
    """The program's exit code."""
    try:
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


class Call(socketserver.StreamRequestHandler):
    """One program: the request names it, its arguments and the files for its output; the answer is its exit code."""

    def handle(self):
        request = json.loads(self.rfile.readline())
        for number, name in [(1, "stdout"), (2, "stderr")]:
            file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, number)
            os.close(file)
        sys.argv = ["-c", *request["arguments"]]
        code = ran(request["program"])
        # As at the end of an interpreter: what still transfers ends, what is buffered is written.
        threading._shutdown()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        self.wfile.write(f"{code}\n".encode())


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    request_queue_size = 64


with Server(sys.argv[1], Call) as server:
    server.serve_forever()
