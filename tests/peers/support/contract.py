"""The Python client, generated from proto/ as any user of the contract would generate it."""

import atexit
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def generate(folder: Path) -> None:
    """Writes the client's modules below `folder`."""
    files = sorted(path.relative_to(ROOT / "proto").as_posix() for path in (ROOT / "proto").rglob("*.proto"))
    assert files, "proto/ holds no contract"
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "--proto_path=proto"]
    subprocess.run(
        [*protoc, f"--python_out={folder}", f"--grpc_python_out={folder}", *files], cwd=ROOT, check=True, timeout=120
    )


_folder = tempfile.TemporaryDirectory(prefix="heedwell-client-")
atexit.register(_folder.cleanup)
generate(Path(_folder.name))
sys.path.insert(0, _folder.name)

from heedwell.v1 import (  # noqa: E402
    audit_service_pb2_grpc,
    broadcast_service_pb2 as broadcast,
    broadcast_service_pb2_grpc,
    conversations_service_pb2 as conversations,
    conversations_service_pb2_grpc,
    directory_service_pb2 as directory,
    directory_service_pb2_grpc,
    errors_pb2 as errors,
    inbox_service_pb2_grpc,
    notify_service_pb2 as notify,
    notify_service_pb2_grpc,
    preferences_service_pb2 as preferences,
    preferences_service_pb2_grpc,
    template_service_pb2_grpc,
    types_pb2 as types,
)

SERVICES = (
    "heedwell.v1.AuditService",
    "heedwell.v1.BroadcastService",
    "heedwell.v1.ConversationsService",
    "heedwell.v1.DirectoryService",
    "heedwell.v1.InboxService",
    "heedwell.v1.NotifyService",
    "heedwell.v1.PreferencesService",
    "heedwell.v1.TemplateService",
)

__all__ = [
    "ROOT",
    "SERVICES",
    "audit_service_pb2_grpc",
    "broadcast",
    "broadcast_service_pb2_grpc",
    "conversations",
    "conversations_service_pb2_grpc",
    "directory",
    "directory_service_pb2_grpc",
    "errors",
    "generate",
    "inbox_service_pb2_grpc",
    "notify",
    "notify_service_pb2_grpc",
    "preferences",
    "preferences_service_pb2_grpc",
    "template_service_pb2_grpc",
    "types",
]
