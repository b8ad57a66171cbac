"""The JSON Schema of blueprints, judged by an independent validator; and YAML, read by an independent reader."""
import json
import os
import subprocess
import tomllib

import jsonschema
import yaml

datahall = os.environ["DATAHALL"]


def run(*arguments):
    return subprocess.run([datahall, *arguments], capture_output=True, text=True, check=True).stdout


schema = json.loads(run("schema"))
jsonschema.Draft7Validator.check_schema(schema)
validator = jsonschema.Draft7Validator(schema)

for template in os.environ["TEMPLATES"].split(","):
    run("init", "--template", template, f"{template}.toml", "-q")
    with open(f"{template}.toml", "rb") as file:
        blueprint = tomllib.load(file)
    wrong = [error.message for error in validator.iter_errors(blueprint)]
    assert not wrong, (template, wrong)

    # What a person gets wrong, an editor with the schema marks: a misspelled key in every section of this blueprint.
    for kind, group in blueprint.items():
        if kind in ("policy", "target", "gateway"):
            sections = [group]
        elif kind == "catalog":
            sections = [item for items in group.values() for item in items.values()]
        elif isinstance(group, dict):
            sections = list(group.values())
        else:
            continue
        for section in sections:
            section["no_such_key"] = 1
            assert not validator.is_valid(blueprint), (template, kind)
            del section["no_such_key"]
    blueprint["nodes"] = 4
    assert not validator.is_valid(blueprint), template

for broken in [
    'schema = 1\nname = "Lab"\n[pool.a]\nnodes = 1\n',
    'schema = 1\nname = "lab"\n[pool.a]\nnodes = "1"\n',
    'schema = 1\nname = "lab"\n[pool.a]\nnodes = 0\n',
    'schema = 1\nname = "lab"\n[pool.a]\nnodes = 1\nrated = 700\n',
    'schema = 1\nname = "lab"\n[pool.a]\nnodes = 1\n[workload.x]\nkind = "command"\nmodel = "x"\ncommand = ["x"]\n',
    'schema = 1\nname = "lab"\n[pool.a]\nnodes = 1\n[workload.x]\nkind = "command"\n',
    'schema = 1\nname = "lab"\n[pool.a]\nnodes = 1\n[fabric.x]\ntopology = "ring"\nswitch = "qm9700"\n',
]:
    assert not validator.is_valid(tomllib.loads(broken)), broken

whole = run("plan", "su127.toml", "--no-probe", "-o", "json", "-q")
assert yaml.safe_load(run("plan", "su127.toml", "--no-probe", "-o", "yaml", "-q")) == json.loads(whole)
print("the schema and YAML hold")
