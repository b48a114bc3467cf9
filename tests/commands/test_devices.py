"""``fercore-train devices``: every backend, with a line."""

from fercore import backends, cli


def test_devices_lists_every_backend(capsys):
    assert cli.main(["devices"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0].rstrip(":") for line in lines] == list(backends.NAMES)
