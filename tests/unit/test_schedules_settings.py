"""`periop.toml` and study files: defaults, paths, and one sentence for each fault that names file, key
and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.fhir.resource import Resource, read_resource
from connectors.lake.spool import as_batch
from connectors.lake.table import Cursor, Lake
from schedules.config.settings import STARTER_FILE, check_sites, load_settings, load_study
from schedules.config.site_settings import SearchSite
from schedules.errors import ConfigError, ExitCode, exit_code

FOLDER = '[[sites]]\nname = "a"\nkind = "folder"\npath = "in"\n'


def write(folder: Path, text: str, name: str = "periop.toml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def fault(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(write(folder, text))
    assert exit_code(caught.value) == ExitCode.CONFIG
    return str(caught.value)


def test_the_least_file_has_safe_defaults(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, FOLDER))
    assert settings.data_dir == tmp_path / "periop-data"
    assert settings.sites[0].path == tmp_path / "in"  # type: ignore[union-attr]
    assert settings.study == "alneo"
    assert settings.disclosure.min_cell == 11
    assert (settings.schedule.nightly, settings.schedule.timezone) == ("30 1 * * *", "UTC")
    assert settings.target_dirs == ()


def test_the_starter_file_is_valid(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, STARTER_FILE.read_text(encoding="utf-8")))
    assert settings.site_names == ("local",)
    assert settings.disclosure.min_cell == 11


def test_every_commented_key_of_the_starter_file_is_valid_and_a_default(tmp_path: Path) -> None:
    text = STARTER_FILE.read_text(encoding="utf-8")
    limits = "\n".join(line.removeprefix("# ") for line in text[text.index("# [limits]") :].splitlines())
    settings = load_settings(write(tmp_path, FOLDER + limits))
    assert settings.limits == load_settings(write(tmp_path, FOLDER)).limits
    assert settings.persons.identifier_systems == ("http://fhir.de/sid/gkv/kvid-10",)
    assert settings.mapping.views == (tmp_path / "views",)
    assert settings.mapping.terminology == (tmp_path / "valuesets",)


def test_paths_are_relative_to_the_file_unless_absolute(tmp_path: Path) -> None:
    text = 'data_dir = "/srv/periop"\nstudy = "mine.toml"\n' + FOLDER + '[[publish]]\nkind="folder"\npath="share"\n'
    settings = load_settings(write(tmp_path, text))
    assert settings.data_dir == Path("/srv/periop")
    assert settings.study == str(tmp_path / "mine.toml")
    assert settings.target_dirs == (tmp_path / "share",)


def test_a_byte_order_mark_is_tolerated(tmp_path: Path) -> None:
    file = tmp_path / "periop.toml"
    file.write_bytes(b"\xef\xbb\xbf" + FOLDER.encode())
    assert load_settings(file).site_names == ("a",)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            'dta_dir = "x"\n' + FOLDER,
            ("dta_dir: unknown key", "did you mean 'data_dir'?", "allowed: data_dir, "),
        ),
        (FOLDER + "[schedule]\nnigthly = '1 1 * * *'", ("schedule.nigthly: unknown key", "'nightly'")),
        (FOLDER + "[limits]\npage_sise = 3", ("limits.page_sise: unknown key", "'page_size'")),
        (FOLDER.replace("path", "pth"), ("sites[0].pth: unknown key", "'path'", "sites[0].path: required")),
        (
            FOLDER + '[[sites]]\nname="b"\nkind="search"\nurl="https://h/fhir"\nauth={kind="basic", usrname="u"}',
            (
                "sites[1].auth.usrname: unknown key",
                "'username'",
                "allowed: kind, password_env, password_file, username",
            ),
        ),
        (
            '[[sites]]\nname="b"\nkind="search"\nurl="https://h/fhir"\nauth={kind="smrt"}',
            ("sites[0].auth.kind: 'smrt' is not available in this version", "allowed: none, basic, bearer, smart"),
        ),
        (
            '[[sites]]\nname="b"\nkind="search"\nurl="https://h/fhir"\nauth={}',
            ("sites[0].auth.kind: required",),
        ),
        (
            '[[sites]]\nname="b"\nkind="fhir"\nurl="https://h"',
            ("sites[0].kind: 'fhir' is not", "allowed: folder, search, bulk"),
        ),
        (
            '[[sites]]\nname="b"\nkind="serach"\nurl="https://h"',
            ("sites[0].kind: 'serach'", "did you mean 'search'?"),
        ),
        (
            'engine = "oracle"\n' + FOLDER,
            ("engine: 'oracle' is not available in this version", "allowed: 'duckdb' or 'spark'"),
        ),
        (FOLDER + '[[publish]]\nkind = "fhir"', ("publish[0].kind: 'fhir' is not available", "'folder'")),
        (
            FOLDER + 'types = ["Patient", "Condition", "Encounter"]',
            ("sites[0].types: nothing is done with Encounter; allowed: Patient, ",),
        ),
        (FOLDER + 'types = ["Patient"]', ("sites[0].types: must name Condition, without which nobody is in",)),
        ("", ("sites: required",)),
        ("sites = []", ("sites: ", "at least 1 item")),
        (FOLDER + FOLDER, ("sites[0] and sites[1] are both named 'a'",)),
        (FOLDER.replace('"a"', '"../a"'), ("sites[0].name: ",)),
        (FOLDER.replace('"a"', '"con"'), ("sites[0].name: 'con' is a device name",)),
        (FOLDER.replace('"a"', f'"{"a" * 65}"'), ("sites[0].name: ", "at most 64")),
        (FOLDER.replace('"a"', '"a\\n"'), ("sites[0].name: ",)),
        (FOLDER + "[disclosure]\nmin_cell = -1", ("disclosure.min_cell: ", "greater than or equal to 0")),
        (FOLDER + "[schedule]\nnightly = '61 1 * * *'", ("schedule: '61 1 * * *' is not five cron fields",)),
        (
            FOLDER + "[schedule]\ntimezone = 'Europe/Rom'",
            ("schedule.timezone: 'Europe/Rom' is not a time zone",),
        ),
        (FOLDER + "[schedule]\ntimezone = '../../etc/passwd'", ("schedule.timezone: ", "is not a time zone")),
    ],
)
def test_a_fault_names_file_key_and_what_is_allowed(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    message = fault(tmp_path, text)
    for part in (str(tmp_path / "periop.toml"), *parts):
        assert part in message


@pytest.mark.parametrize("value", ["true", '"11"', "11.0", "[11]"])
def test_fault_77_a_threshold_that_is_no_number_is_refused(tmp_path: Path, value: str) -> None:
    message = fault(tmp_path, f"{FOLDER}[disclosure]\nmin_cell = {value}")
    line = FOLDER.count("\n") + 2
    assert f"periop.toml: line {line}: disclosure.min_cell: must be a whole number" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[sites]\nname = "a"\nkind = "folder"\npath = "x"\n', "line 1: sites: must be a list: write [[sites]] with"),
        (FOLDER + "[[disclosure]]\nmin_cell = 5", "disclosure: must be a table: write [disclosure] with one bracket"),
        ("study = 5\n" + FOLDER, "line 1: study: must be a text in quotes"),
        ("data_dir = 5\n" + FOLDER, "line 1: data_dir: must be a path in quotes"),
        (FOLDER + 'complete = "yes"', "sites[0].complete: must be true or false, without quotes"),
        (FOLDER + '[limits]\nread_seconds = "5"', "limits.read_seconds: must be a number without quotes"),
        (FOLDER + "[limits]\npage_size = true", "limits.page_size: must be a whole number"),
        (FOLDER + 'limits.page_size = "x"', "limits"),
    ],
)
def test_fault_78_a_value_of_another_kind_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    message = fault(tmp_path, text)
    assert said in message
    assert "valid" not in message  # of "Input should be a valid integer"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'data_dir = "~/x"\n' + FOLDER,
            "line 1: data_dir: '~' is not expanded here: write the whole path",
        ),
        ('data_dir = "a%20b"\n' + FOLDER, "a%20b has %20 in it, which the library of the lake reads as one character"),
        ('data_dir = "periop.toml"\n' + FOLDER, "periop.toml is there, and is no folder; name another place"),
        (FOLDER + '[[publish]]\nkind = "folder"\npath = "periop.toml"', "line 7: publish[0].path: "),
    ],
)
def test_fault_88_a_folder_that_cannot_be_one_is_said_at_the_start(tmp_path: Path, text: str, said: str) -> None:
    assert said in fault(tmp_path, text)
    assert [each.name for each in tmp_path.iterdir()] == ["periop.toml"]


@pytest.mark.parametrize("kind", ["smrt", "smart2"])
def test_a_fault_in_the_only_site_is_one_line(tmp_path: Path, kind: str) -> None:
    site = f'[[sites]]\nname="b"\nkind="search"\nurl="https://h/fhir"\nauth={{ kind = "{kind}" }}\n'
    (line,) = fault(tmp_path, site).splitlines()
    assert f"sites[0].auth.kind: '{kind}' is not available in this version" in line


def test_a_list_that_is_too_short_of_itself_is_still_a_fault(tmp_path: Path) -> None:
    lines = fault(tmp_path, "sites = []\n[limits]\npage_size = 0").splitlines()
    assert [line.split(": ")[2] for line in lines] == ["sites", "limits.page_size"]


def test_a_folder_target_without_a_path_is_where_releases_land_anyway(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, FOLDER + '[[publish]]\nkind = "folder"'))
    assert settings.target_dirs == ()
    assert settings.releases_dir == tmp_path / "periop-data" / "releases"


def test_the_certificates_of_a_site_are_a_path_from_the_file(tmp_path: Path) -> None:
    site = '[[sites]]\nname="b"\nkind="search"\nurl="https://h/fhir"\n'
    (found,) = load_settings(write(tmp_path, site + 'ca_file = "ca.pem"')).sites
    assert isinstance(found, SearchSite)
    assert found.ca_file == tmp_path / "ca.pem"


def test_every_fault_is_a_line_of_its_own(tmp_path: Path) -> None:
    lines = fault(tmp_path, "a = 1\nb = 2\n" + FOLDER).splitlines()
    assert [line.split(": ")[2] for line in lines] == ["a", "b"]


@pytest.mark.parametrize(
    "url", ["ftp://h/fhir", "https://", "fhir.example.org", "http://[::1", "https://h:0/", "https://h/?a=b"]
)
def test_an_address_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    message = fault(tmp_path, f'[[sites]]\nname="b"\nkind="search"\nurl="{url}"')
    assert "sites[0].url: " in message


def test_a_secret_in_a_wrong_place_is_not_repeated(tmp_path: Path) -> None:
    site = '[[sites]]\nname="b"\nkind="search"\n'
    in_url = fault(tmp_path, site + 'url="https://u:hunter2@h/fhir"')
    in_key = fault(tmp_path, site + 'url="https://h/fhir"\nauth={kind="basic", username="u", password="hunter2"}')
    assert "hunter2" not in in_url + in_key
    assert "did you mean 'password_env'?" in in_key


def test_a_secret_over_plain_http_must_be_asked_for(tmp_path: Path) -> None:
    site = '[[sites]]\nname="b"\nkind="search"\nurl="http://h/fhir"\nauth={kind="bearer", token_env="T"}\n'
    assert "allow_plain_http = true" in fault(tmp_path, site)
    assert load_settings(write(tmp_path, site + "allow_plain_http = true")).site_names == ("b",)
    assert load_settings(write(tmp_path, site.replace("//h/", "//127.0.0.1/"))).site_names == ("b",)


def test_credentials_need_one_source(tmp_path: Path) -> None:
    site = '[[sites]]\nname="b"\nkind="search"\nurl="https://h/fhir"\nauth={kind="bearer"'
    assert "give one of token_env, token_file" in fault(tmp_path, site + "}")
    assert "give one of token_env, token_file" in fault(tmp_path, site + ', token_env="A", token_file="b"}')


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        (b"a = 1\nb = = 2\n", "line 2"),
        (b'a = 1\nb = "', "line 2"),
        (b"a = 1\n\xff = 2\n", "line 2 is not UTF-8"),
        (b"a = " + b"[" * 3000, "nested too deeply"),
    ],
)
def test_a_syntax_error_names_the_line(tmp_path: Path, raw: bytes, part: str) -> None:
    file = tmp_path / "periop.toml"
    file.write_bytes(raw)
    with pytest.raises(ConfigError, match=part):
        load_settings(file)


def test_no_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run `periop init`"):
        load_settings(tmp_path / "periop.toml")


def test_a_folder_as_the_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path)


def test_sites_are_checked_by_name(tmp_path: Path) -> None:
    file = write(tmp_path, FOLDER)
    settings = load_settings(file)
    assert check_sites(settings, (), file) == ("a",)
    assert check_sites(settings, ("a", "a"), file) == ("a",)
    with pytest.raises(ConfigError, match=r"periop\.toml: has no site named 'b'; configured: a"):
        check_sites(settings, ("b",), file)


def test_the_shipped_study_loads() -> None:
    assert load_study("alneo").id == "alneo"


def test_an_unknown_study_lists_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match=r"no such study.*alneo"):
        load_study("alnoe")


def test_a_study_fault_names_file_and_key(tmp_path: Path) -> None:
    text = """
id = "x"
title = "x"
arm = "x"
data_cut = 2024-01-01
proportions = [{ id = "p", lable = "p" }]
[eligibility]
stages = ["IIIA"]
[treatment]
drug = "x"
"""
    file = write(tmp_path, text, "mine.toml")
    with pytest.raises(ConfigError) as caught:
        load_study(str(file))
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{file}: line 6: proportions[0].") for line in lines)
    assert "label: required" in lines[0]
    assert "lable: unknown key (did you mean 'label'?)" in lines[1]


# --- credentials of a server ---

SERVER = '[[sites]]\nname="b"\nkind="search"\nurl="https://h/fhir"\n'
SMART = 'auth={kind="smart", client_id="periop", key_file="key.json"'


def server_site(folder: Path, text: str) -> SearchSite:
    (found,) = load_settings(write(folder, text)).sites
    assert isinstance(found, SearchSite)
    return found


@pytest.mark.parametrize(
    ("written", "scope"),
    [
        ("", ()),
        (', scope="system/*.read"', ("system/*.read",)),
        (', scope=" system/Patient.rs  system/Condition.rs "', ("system/Patient.rs", "system/Condition.rs")),
        (', scope=["system/Patient.rs", "system/Condition.rs"]', ("system/Patient.rs", "system/Condition.rs")),
    ],
)
def test_scopes_are_a_text_or_a_list(tmp_path: Path, written: str, scope: tuple[str, ...]) -> None:
    auth = server_site(tmp_path, SERVER + SMART + written + "}").auth
    assert auth.kind == "smart"
    assert (auth.key_file, auth.scope, auth.token_url) == (tmp_path / "key.json", scope, None)


@pytest.mark.parametrize(
    ("auth", "part"),
    [
        ('auth={kind="smart"}', "sites[0].auth.client_id: required"),
        (SMART + ', token_url="sso.example.org"}', "sites[0].auth.token_url: "),
        (SMART + ', token_url="https://u:p@h/token"}', "holds credentials"),
        (SMART + ', token_url="http://sso/token"}', "requests tokens over plain http"),
        (SMART + ', scope=["a b"]}', "sites[0].auth.scope[0]: "),
        (SMART + ", scope=7}", "sites[0].auth.scope: "),
        (SMART + ', client_secret="hunter2"}', "sites[0].auth.client_secret: unknown key"),
        (SMART.replace('"periop"', '""') + "}", "sites[0].auth.client_id: "),
        ('client_key_file="k"', "has a client key without client_cert_file"),
        ('client_key_password_env="P"', "has a client key without client_cert_file"),
        (
            'client_cert_file="c"\nclient_key_password_env="P"\nclient_key_password_file="p"',
            "give one of client_key_password_env, client_key_password_file",
        ),
    ],
)
def test_a_fault_of_credentials_names_the_key(tmp_path: Path, auth: str, part: str) -> None:
    message = fault(tmp_path, SERVER + auth)
    assert part in message
    assert "hunter2" not in message


def test_a_token_endpoint_may_have_a_query_and_be_http_where_that_is_allowed(tmp_path: Path) -> None:
    given = SMART + ', token_url="https://sso/token?tenant=a"}'
    auth = server_site(tmp_path, SERVER + given).auth
    assert auth.kind == "smart"
    assert auth.token_url == "https://sso/token?tenant=a"
    plain = SMART + ', token_url="http://sso/token"}\nallow_plain_http=true'
    assert server_site(tmp_path, SERVER + plain).allow_plain_http
    loopback = SMART + ', token_url="http://127.0.0.1:4000/token"}'
    assert server_site(tmp_path, SERVER + loopback).name == "b"


def test_a_client_certificate_needs_https_and_is_a_path_from_the_file(tmp_path: Path) -> None:
    certificate = 'client_cert_file="c.pem"\nclient_key_file="k.pem"\n'
    found = server_site(tmp_path, SERVER + certificate)
    assert (found.client_cert_file, found.client_key_file) == (tmp_path / "c.pem", tmp_path / "k.pem")
    assert "needs an https url" in fault(tmp_path, SERVER.replace("https", "http") + certificate)


def test_every_commented_key_of_a_server_in_the_starter_file_is_valid(tmp_path: Path) -> None:
    lines = STARTER_FILE.read_text(encoding="utf-8").splitlines()
    begin = lines.index("# A FHIR R4 server:") + 1
    block = lines[begin : lines.index("", begin)]
    kinds = [line.split("auth", 1)[1] for line in block if "auth = {" in line]
    assert len(kinds) == 4
    others = [line.removeprefix("# ") for line in block if "auth = {" not in line]
    for kind in kinds:
        assert server_site(tmp_path, "\n".join([*others, f"auth{kind}"])).name == "milan"


@pytest.mark.parametrize("name", ["a b", "50%", "a%b", "100% of milan", "ä"])
def test_fault_137_a_percent_sign_that_is_no_escape_is_part_of_a_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "periop.toml").write_text(f'data_dir = "{name}"\n{FOLDER}')
    lake = Lake(load_settings(tmp_path / "periop.toml").lake_dir)
    patient = read_resource(b'{"resourceType": "Patient", "id": "p1"}', "test")
    assert isinstance(patient, Resource)
    lake.append("milan", [as_batch([patient])], Cursor("test", complete=True))
    assert [row["id"] for batch in lake.rows("milan", ["id"]) for row in batch.to_pylist()] == ["p1"]


def test_fault_137_a_folder_above_may_have_no_escape_either(tmp_path: Path) -> None:
    (tmp_path / "a%20b").mkdir()
    assert "a%20b/periop-data has %20 in it" in fault(tmp_path / "a%20b", FOLDER)
