"""Kubernetes' own schemas judge objects: judge_kubernetes.py VERSION... < objects. Each line is an object as JSON, each line of the
output the list of what is wrong with it in one of these versions. A field that a schema does not know is wrong; a kind that no
version of Kubernetes has is nobody's to judge, which is said as null.
"""

import functools
import json
import sys

import jsonschema
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource


@functools.cache
def definitions(version):
    contents = schema_contents(f"kubernetes-json-schema/v{version}.0-local-strict/_definitions.json", version)
    return Resource.from_contents(contents) @ Registry()


@functools.cache
def validator(kind, api_version, version):
    group, _, of_group = api_version.rpartition("/")
    if "." in group and not group.endswith(".k8s.io"):
        return None
    name = f"{group.partition('.')[0]}-{of_group}" if group else of_group
    path = f"kubernetes-json-schema/v{version}.0-local-strict/{kind.lower()}-{name}.json"
    try:
        schema = schema_contents(path, version)
    except FileNotFoundError:
        return None
    registry = Resource.from_contents(schema) @ definitions(version)
    return jsonschema.Draft202012Validator(schema, registry=registry)


def faults(judged):
    found, known = [], False
    for version in sys.argv[1:]:
        judge = validator(judged["kind"], judged["apiVersion"], version)
        if judge is None:
            continue
        known = True
        for error in judge.iter_errors(judged):
            path = ".".join(str(step) for step in error.absolute_path)
            found.append(f"Kubernetes {version}: {path}: {error.message:.300}")
    return found if known else None


for line in sys.stdin:
    print(json.dumps(faults(json.loads(line))))
