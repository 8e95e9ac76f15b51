"""The function plane's messages: what a dispatcher, its clients and its workers say to each other, typed and bounded.

Every message is one MessagePack array `[tag, ...]` in the first frame. Payloads of up to INLINE_BYTES_MAX bytes lie in
it; larger ones are frames of their own behind it, and the message names them by their index (the first is 0). So a
control frame stays small, and a payload is never copied into one.

Everything can be said twice: a submission is known by its tasks' ids, an outcome by its task and attempt, and both
sides repeat what has not been acknowledged. `session` is given by ENLISTED and ends with its connection.
"""

from __future__ import annotations

from typing import Any

import msgspec

from strata_zmq.errors import ProtocolError
from strata_zmq.protocol.function_clients import (
    Answers,
    Attach,
    AttachedReply,
    Beat,
    BeatAck,
    Cancel,
    Cancelling,
    Complaint,
    Counts,
    Detach,
    Fetch,
    GetCounts,
    ListTasks,
    Page,
    PutBlobs,
    RegisterFunction,
    Results,
    Seen,
    Stored,
    Submit,
    SubmittedReply,
    Watch,
)
from strata_zmq.protocol.function_parts import (
    BATCH_MAX,
    BLOB_BYTES_MAX,
    FRAMES_MAX,
    FUNCTIONS_VERSION,
    INLINE_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    AssignedTask,
    Blob,
    Body,
    Existing,
    HeldTask,
    LimitsRow,
    NewTask,
    OutcomeRow,
    RefusedTask,
    ReportRow,
    TaskRef,
    TaskRow,
)
from strata_zmq.protocol.function_workers import (
    Assign,
    Begin,
    Blobs,
    Enlist,
    Enlisted,
    Recall,
    Retire,
    Settled,
    StopTasks,
    Turn,
    WantBlobs,
)
from strata_zmq.protocol.sight import GetFunctionsSight, ShownFunctions

__all__ = [
    "BATCH_MAX",
    "BLOB_BYTES_MAX",
    "FRAMES_MAX",
    "FUNCTIONS_VERSION",
    "INLINE_BYTES_MAX",
    "MESSAGE_BYTES_MAX",
    "Answers",
    "Assign",
    "AssignedTask",
    "Attach",
    "AttachedReply",
    "Beat",
    "BeatAck",
    "Begin",
    "Blob",
    "Blobs",
    "Body",
    "Cancel",
    "Cancelling",
    "ClientReply",
    "Complaint",
    "Counts",
    "Detach",
    "Enlist",
    "Enlisted",
    "Existing",
    "Fetch",
    "FromClient",
    "FromWorker",
    "GetCounts",
    "GetFunctionsSight",
    "HeldTask",
    "LimitsRow",
    "ListTasks",
    "NewTask",
    "OutcomeRow",
    "Page",
    "PutBlobs",
    "Recall",
    "RefusedTask",
    "RegisterFunction",
    "ReportRow",
    "Results",
    "Retire",
    "Seen",
    "Settled",
    "ShownFunctions",
    "StopTasks",
    "Stored",
    "Submit",
    "SubmittedReply",
    "TaskRef",
    "TaskRow",
    "Turn",
    "WantBlobs",
    "Watch",
    "WorkerReply",
    "decode_at_client",
    "decode_at_dispatcher",
    "decode_at_worker",
    "encode_function",
]

FromClient = (
    Attach
    | PutBlobs
    | RegisterFunction
    | Submit
    | Fetch
    | Watch
    | Cancel
    | ListTasks
    | GetCounts
    | GetFunctionsSight
    | Seen
    | Detach
    | Beat
)
FromWorker = Enlist | Turn | WantBlobs | Retire
ClientReply = (
    AttachedReply
    | Stored
    | SubmittedReply
    | Answers
    | Results
    | Cancelling
    | Page
    | Counts
    | ShownFunctions
    | Complaint
    | BeatAck
)
WorkerReply = Enlisted | Assign | Begin | Recall | StopTasks | Settled | Blobs | Complaint

_at_dispatcher: msgspec.msgpack.Decoder[FromClient | FromWorker] = msgspec.msgpack.Decoder(FromClient | FromWorker)
_at_client: msgspec.msgpack.Decoder[ClientReply] = msgspec.msgpack.Decoder(ClientReply)
_at_worker: msgspec.msgpack.Decoder[WorkerReply] = msgspec.msgpack.Decoder(WorkerReply)

encode_function = msgspec.msgpack.Encoder().encode


def decode_at_dispatcher(data: bytes) -> FromClient | FromWorker:
    """Return what a dispatcher may be sent in a first frame; raises ProtocolError."""
    message: FromClient | FromWorker = _decode(_at_dispatcher, data, "message to a dispatcher")
    return message


def decode_at_client(data: bytes) -> ClientReply:
    """Return what a dispatcher says to a client; raises ProtocolError."""
    message: ClientReply = _decode(_at_client, data, "message to a client")
    return message


def decode_at_worker(data: bytes) -> WorkerReply:
    """Return what a dispatcher says to a worker; raises ProtocolError."""
    message: WorkerReply = _decode(_at_worker, data, "message to a worker")
    return message


def _decode(decoder: msgspec.msgpack.Decoder[Any], data: bytes, what: str) -> Any:
    if len(data) > MESSAGE_BYTES_MAX:
        raise ProtocolError(f"{what} of {len(data)} bytes exceeds the limit of {MESSAGE_BYTES_MAX}: send less at once")
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"{what} is not understood: {error}") from None
