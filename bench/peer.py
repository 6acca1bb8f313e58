"""The Python side of a benchmark: answers each line of JSON on standard input with one on standard output."""
import json
import sys


def serve(answer):
    """`answer` takes the keys of a question as keyword arguments and returns a dict."""
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)
