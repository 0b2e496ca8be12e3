"""`periop pull`: resources of a FHIR server into a folder of NDJSON, without a study and without a lake."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from schedules.cli.session import Session, as_json, existing_file, pass_session
from schedules.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from connectors.export_folder import ExportFolder
    from schedules.config.settings import Settings
    from schedules.config.site_settings import BulkSite, SearchSite
    from schedules.run.pull import Wanted

COMMAND_LINE = Path("the options of periop pull")  # in place of the file in messages about a wrong value


@click.command()
@click.argument("url", required=False)
@click.option("--type", "types", metavar="TYPE,…", required=True, multiple=True, help="The resource types to read.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The folder to write to.")
@click.option("--group", metavar="ID", help="Only the patients of this Group.")
@click.option("--ids", type=existing_file, help="Only the patients in this file: ids, or systems and values.")
@click.option("--since", metavar="INSTANT", help="Only what changed since then, like 2026-01-31T00:00:00Z.")
@click.option("--export", is_flag=True, help="By Bulk Data $export instead of searches.")
@click.option("--site", help="The server and credentials of this site of periop.toml, instead of URL.")
@click.option("--token-file", type=existing_file, help="A file with the bearer token for URL.")
@as_json
@pass_session
def pull(
    session: Session,
    url: str | None,
    types: tuple[str, ...],
    out: Path,
    group: str | None,
    ids: Path | None,
    since: str | None,
    export: bool,
    site: str | None,
    token_file: Path | None,
    json_wanted: bool,
) -> ExitCode:
    """Write resources of the FHIR server at URL to NDJSON files; run it again to go on after an interruption."""
    from schedules.run.pull import pull_into_folder

    session.log()
    settings, server = _server(session, url, site, token_file)
    wanted = _wanted(types, group, ids, since, export)
    with session.progress() as progress:
        folder = pull_into_folder(settings, server, wanted, out, session.now, session.environ, progress)
    return _print(session, folder, json_wanted)


def _server(
    session: Session, url: str | None, name: str | None, token_file: Path | None
) -> tuple[Settings, SearchSite | BulkSite]:
    from schedules.config.settings import Settings
    from schedules.config.toml_models import validate

    # The credentials of a site must not go to an address that somebody types.
    if (url is None) == (name is None):
        raise ConfigError("give the URL of a server, or --site with the name of one in periop.toml")
    if name is not None:
        if token_file is not None:
            raise ConfigError("--token-file belongs to a URL: the credentials of --site are in periop.toml")
        settings = session.settings()
        for site in settings.sites:
            if site.name == name and site.kind != "folder":
                return settings, site
        raise ConfigError(f"{session.config}: has no server named {name!r}; give the name of a site with a url")
    auth = {"kind": "bearer", "token_file": str(token_file.absolute())} if token_file else {"kind": "none"}
    sites = [{"name": "pull", "kind": "search", "url": url, "auth": auth}]
    settings = validate(Settings, {"sites": sites}, COMMAND_LINE)
    (site,) = settings.sites
    assert site.kind == "search"  # noqa: S101 - as it was made
    return settings, site


def _wanted(types: tuple[str, ...], group: str | None, ids: Path | None, since: str | None, export: bool) -> Wanted:
    from connectors.fhir.instants import instant
    from connectors.fhir.resource import ID
    from connectors.fhir.resource_types import KNOWN
    from schedules.run.pull import Wanted
    from schedules.run.sources import whole_patient_list

    named = tuple(dict.fromkeys(part.strip() for each in types for part in each.split(",") if part.strip()))
    if not named or (unknown := [each for each in named if each not in KNOWN]):
        raise ConfigError(f"--type: {', '.join(unknown) if named else 'nothing'} is no resource type of FHIR R4")
    # It becomes a part of the path of a request.
    if group is not None and not ID.fullmatch(group):
        raise ConfigError("--group: give the id of a Group alone (up to 64 letters, digits, - and .)")
    if since is not None and instant(since) is None:
        raise ConfigError("--since: give an instant with its time zone, like 2026-01-31T00:00:00Z")
    if ids is not None and (group is not None or export):
        raise ConfigError("--ids is for searches: leave out --group and --export")
    return Wanted(named, group, whole_patient_list(ids) if ids is not None else None, since, export)


def _print(session: Session, folder: ExportFolder, json_wanted: bool) -> ExitCode:
    code = ExitCode.OK if folder.finished and not folder.messages else ExitCode.PARTIAL
    counts = dict(sorted(folder.counts.items()))
    if json_wanted:
        said = {"messages": folder.messages, "notes": folder.notes}
        session.print_json({"resources": counts, "finished": folder.finished, **said, "exit_code": code})
        return code
    for kind, count in counts.items():
        session.print_out(f"{count} {kind}")
    for sentence in (*folder.notes, *folder.messages):
        session.print_err(sentence)
    if not folder.finished:
        session.print_err("periop: not everything could be read: run the same command again to go on")
    return code
