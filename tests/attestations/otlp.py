"""Reads a trace as OpenTelemetry's own Python types do, and says what stands in it: otlp.py TRACE

OTLP/JSON is protobuf's JSON but for the ids, which are hex: those alone are converted here. Whatever else protobuf does not
know (a field, an enum, a number in another form) is an error. Prints, as JSON, the number of lines, the names of all spans
with how often each stands there, and the trace ids.
"""

import base64
import collections
import json
import sys

from google.protobuf import json_format
from opentelemetry.proto.trace.v1 import trace_pb2

IDS = {"traceId": 16, "spanId": 8, "parentSpanId": 8}


def converted(value):
    if isinstance(value, list):
        return [converted(one) for one in value]
    if not isinstance(value, dict):
        return value
    out = {}
    for key, one in value.items():
        if key in IDS:
            raw = bytes.fromhex(one)
            assert len(raw) == IDS[key] and any(raw), f"{key} {one!r}"
            out[key] = base64.b64encode(raw).decode()
        else:
            out[key] = converted(one)
    return out


def main(path):
    names, traces, ids, parents, lines = collections.Counter(), set(), set(), set(), 0
    with open(path, encoding="utf-8") as trace:
        for line in trace:
            lines += 1
            data = json_format.Parse(json.dumps(converted(json.loads(line))), trace_pb2.TracesData())
            # And back: nothing was read as something else.
            again = json_format.Parse(json_format.MessageToJson(data), trace_pb2.TracesData())
            assert again == data
            for resource in data.resource_spans:
                assert resource.schema_url and resource.resource.attributes
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        names[span.name] += 1
                        traces.add(span.trace_id.hex())
                        assert span.span_id not in ids
                        ids.add(span.span_id)
                        parents.add(span.parent_span_id)
                        assert span.kind == trace_pb2.Span.SPAN_KIND_INTERNAL
                        assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
    assert parents - {b""} <= ids, "a parent that is no span"
    json.dump({"lines": lines, "names": names, "traces": sorted(traces)}, sys.stdout)


main(sys.argv[1])
