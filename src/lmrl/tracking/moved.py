"""Let an MLflow database move with its project: its addresses of files follow it to another folder.

MLflow stores absolute addresses. In a copied or moved project they would lead into the old folder, and new runs
would be written there.
"""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

HOME_TAG = "lmrl.database"
"""The tag of an experiment with the path of its database when it was last opened."""
_ADDRESSES = (
    ("experiments", "artifact_location", "1"),
    ("runs", "artifact_uri", "1"),
    ("logged_models", "artifact_location", "1"),
    ("trace_tags", "value", "key = 'mlflow.artifactLocation'"),
)
"""Tables, columns and rows with addresses of files."""
_FOLDERS = (("tags", "value", "key = 'output_folder'"),)
"""Those with plain paths."""


def follow(database: Path) -> None:
    """Rewrite the addresses of a database that was moved or copied, if they led into its old folder.

    Files that were elsewhere, on another disk for example, stay there. A database that did not move is only read.

    Args:
        database: the SQLite file, with its whole path.
    """
    if not database.exists():
        return
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
        if not {"experiment_tags", "experiments"} <= tables:
            return
        homes = connection.execute("select distinct value from experiment_tags where key = ?", [HOME_TAG]).fetchall()
        for home in sorted({Path(value).parent for (value,) in homes} - {database.parent}):
            try:
                _rewrite(connection, tables, home, database)
            except sqlite3.OperationalError as error:
                print(f"{database} was moved from {home}, where its files are looked for: {error}", file=sys.stderr)


def _rewrite(connection: sqlite3.Connection, tables: set[str], home: Path, database: Path) -> None:
    """Let all addresses that lead into the old folder lead into the new one.

    Raises:
        sqlite3.OperationalError: the database cannot be written.
    """
    for places, old, new in (
        (_ADDRESSES, home.as_uri(), database.parent.as_uri()),
        (_FOLDERS, str(home), str(database.parent)),
    ):
        for table, column, rows in (place for place in places if place[0] in tables):
            connection.execute(
                f"update {table} set {column} = ? || substr({column}, ?) where {rows} and substr({column}, 1, ?) = ?",
                [f"{new}/", len(old) + 2, len(old) + 1, f"{old}/"],
            )
    connection.execute("update experiment_tags set value = ? where key = ?", [str(database), HOME_TAG])
