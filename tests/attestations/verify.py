"""Verifies the signed statements of an evidence directory with in-toto's own packages, and with nothing of Proctor's.

    PYTHONPATH=SITE python3 verify.py EVIDENCE KEY.pub

Prints the key id, and the type of each predicate; anything that is wrong ends it with an exception's name.
"""

import base64
import hashlib
import json
import os
import sys

from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

PREDICATES = {
    "https://in-toto.io/attestation/test-result/v0.1": test_result_pb2.TestResult,
    "https://slsa.dev/provenance/v1": provenance_pb2.Provenance,
}

evidence, key_file = sys.argv[1:]
STATEMENTS = "report.intoto.jsonl"


def read(name):
    with open(os.path.join(evidence, name), "rb") as file:
        return file.read()


def public_key():
    with open(key_file, encoding="ascii") as file:
        begin, *body, end = file.read().split("\n")[:-1]
    assert (begin, end) == ("-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----")
    der = base64.b64decode("".join(body), validate=True)
    # RFC 8410: SubjectPublicKeyInfo of Ed25519 is these bytes and the key.
    assert der[:12] == bytes.fromhex("302a300506032b6570032100") and len(der) == 44
    return SSlibKey(hashlib.sha256(der).hexdigest(), "ed25519", "ed25519", {"public": der[12:].hex()})


key = public_key()
print(key.keyid)
for line in read(STATEMENTS).splitlines():
    envelope = Envelope.from_dict(json.loads(line))
    assert list(envelope.verify([key], 1)) == [key.keyid]
    assert envelope.payload_type == "application/vnd.in-toto+json"
    # Unknown fields and wrong types are errors here.
    parsed = json_format.Parse(envelope.payload, statement_pb2.Statement())
    statement = Statement.copy_from_pb(parsed)
    statement.validate()
    predicate = PREDICATES[parsed.predicate_type]()
    json_format.ParseDict(json_format.MessageToDict(parsed.predicate), predicate)
    if isinstance(predicate, provenance_pb2.Provenance):
        described = list(predicate.build_definition.resolved_dependencies) + list(predicate.run_details.byproducts)
        assert predicate.run_details.metadata.invocation_id == json.loads(read("report.json"))["run_id"]
        assert predicate.run_details.metadata.started_on.ToNanoseconds() > 0
    else:
        described = list(predicate.configuration)
    for one in described:
        ResourceDescriptor.copy_from_pb(one).validate()
    subjects = {subject.name: dict(subject.digest) for subject in parsed.subject}
    names = set(os.listdir(evidence)) - {STATEMENTS}
    assert set(subjects) == names, set(subjects) ^ names
    for name, digest in subjects.items():
        assert digest == {"sha256": hashlib.sha256(read(name)).hexdigest()}, name
    print(parsed.predicate_type, getattr(predicate, "result", ""))
