"""Medusa's own gRPC client against the sidecar at argv[1]."""
import asyncio
import sys
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from medusa.service.grpc import client as medusa_client
from medusa.service.grpc import medusa_pb2 as pb
from medusa.service.grpc import medusa_pb2_grpc


def refused(code, call, *arguments):
    try:
        call(*arguments)
    except grpc.RpcError as error:
        assert error.code() == code, error
        assert error.details(), "no sentence"
    else:
        raise AssertionError("accepted")


channel = grpc.insecure_channel(sys.argv[1])
stub = medusa_pb2_grpc.MedusaStub(channel)
health = health_pb2_grpc.HealthStub(channel)
assert health.Check(health_pb2.HealthCheckRequest(service="")).status == health_pb2.HealthCheckResponse.SERVING
refused(grpc.StatusCode.NOT_FOUND, health.Check, health_pb2.HealthCheckRequest(service="Medusa"))

empty = stub.GetBackups(pb.GetBackupsRequest())
assert not empty.backups and empty.overallStatus == pb.StatusType.UNKNOWN
refused(grpc.StatusCode.NOT_FOUND, stub.BackupStatus, pb.BackupStatusRequest(backupName="nothing"))
refused(grpc.StatusCode.NOT_FOUND, stub.GetBackup, pb.GetBackupRequest(backupName="nothing"))
refused(grpc.StatusCode.INVALID_ARGUMENT, stub.AsyncBackup, pb.BackupRequest(name=""))
refused(grpc.StatusCode.INVALID_ARGUMENT, stub.Backup, pb.BackupRequest(name="data-1"))
purged = stub.PurgeBackups(pb.PurgeBackupsRequest())
assert purged == pb.PurgeBackupsResponse(), purged
refused(grpc.StatusCode.NOT_FOUND, stub.DeleteBackup, pb.DeleteBackupRequest(name="x"))
refused(grpc.StatusCode.NOT_FOUND, stub.PrepareRestore, pb.PrepareRestoreRequest(backupName="x", restoreKey="k"))
for key in ["", "../x", ".hidden", "a/b"]:
    refused(grpc.StatusCode.INVALID_ARGUMENT, stub.PrepareRestore, pb.PrepareRestoreRequest(backupName="x", restoreKey=key))

answer = stub.AsyncBackup(pb.BackupRequest(name="client-one", mode=pb.BackupRequest.Mode.DIFFERENTIAL))
assert answer.backupName == "client-one" and answer.status == pb.StatusType.IN_PROGRESS
# Medusa itself says NOT_FOUND here, which its orchestrator takes for a failure.
at_once = stub.BackupStatus(pb.BackupStatusRequest(backupName="client-one"))
assert at_once.status == pb.StatusType.IN_PROGRESS and at_once.startTime and not at_once.finishTime
refused(grpc.StatusCode.ABORTED, stub.AsyncBackup, pb.BackupRequest(name="client-two"))
deadline = time.time() + 90
while True:
    status = stub.BackupStatus(pb.BackupStatusRequest(backupName="client-one"))
    if status.status != pb.StatusType.IN_PROGRESS:
        break
    assert time.time() < deadline, "no end"
    time.sleep(0.2)
assert status.status == pb.StatusType.SUCCESS, status
assert time.strptime(status.finishTime, "%Y-%m-%d %H:%M:%S") >= time.strptime(status.startTime, "%Y-%m-%d %H:%M:%S")
again = stub.AsyncBackup(pb.BackupRequest(name="client-one"))
assert again.status == pb.StatusType.SUCCESS


async def with_medusas_client():
    client = medusa_client.Client(sys.argv[1])
    assert await client.health_check()
    # Listings are in the order of starts, which are whole seconds.
    time.sleep(1.1)
    await client.backup("client-full", "full")
    assert await client.backup_exists("client-full")
    backups = await client.get_backups()
    assert [backup.backupName for backup in backups] == ["client-one", "client-full"], backups
    assert [backup.backupType for backup in backups] == ["differential", "full"], backups
    one = (await client.get_backup("client-full"))
    assert one.status == pb.StatusType.SUCCESS and one.totalSize > 0, one
    assert await client.get_backup_status("client-full") == pb.StatusType.SUCCESS


stub.PrepareRestore(pb.PrepareRestoreRequest(backupName="client-one", datacenter="dc1", restoreKey="client-key"))
asyncio.run(with_medusas_client())
print("all good")
