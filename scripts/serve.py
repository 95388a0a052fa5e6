"""Serves models over HTTP: texts of many clients, in common batches.

python scripts/serve.py --model=runs/reviews/model
python scripts/serve.py --model=reviews=runs/reviews/model,topics=runs/agnews/model --token_file=token.txt
"""

from absl import flags

from amsdff_jax.cli import command_line
from amsdff_jax.serving.limits import Limits
from amsdff_jax.serving.serve import serve

DEFAULT = Limits()
MODEL = flags.DEFINE_list("model", None, "A model folder, or several as NAME=FOLDER,NAME=FOLDER.")
HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0: all of this machine.")
PORT = flags.DEFINE_integer("port", 8000, "Port to listen on; 0: any that is free.", 0, 65535)
TOKEN_FILE = flags.DEFINE_string("token_file", "", "A file with the token that requests must bear.")
DTYPE = flags.DEFINE_enum("compute_dtype", "", ["", "auto", "float32", "bfloat16"], "By default as saved.")
BATCH = flags.DEFINE_integer("batch_size", DEFAULT.batch_size, "Texts that are computed together at most.")
DELAY = flags.DEFINE_float("max_delay_ms", DEFAULT.max_delay_ms, "Milliseconds that a text waits for others.")
WAITING = flags.DEFINE_integer("max_waiting", DEFAULT.max_waiting, "Texts that wait; of more, 429 is answered.")
TEXTS = flags.DEFINE_integer("max_texts", DEFAULT.max_texts, "Texts of one request.")
BODY = flags.DEFINE_integer("max_body_bytes", DEFAULT.max_body_bytes, "Bytes of one request.")
EXPLAINED = flags.DEFINE_integer(
    "max_explained_characters", DEFAULT.max_explained_characters, "Of a text to explain, of a model with windows."
)
CONNECTIONS = flags.DEFINE_integer("max_connections", DEFAULT.max_connections, "Connections that are open at a time.")
READ = flags.DEFINE_float("read_timeout_s", DEFAULT.read_timeout_s, "Seconds that a client may take to send a request.")
DRAIN = flags.DEFINE_float("drain_s", DEFAULT.drain_s, "Seconds to answer what waits, after SIGTERM.")
flags.mark_flag_as_required("model")


def main() -> None:
    """Serves until it is stopped."""
    limits = Limits(
        batch_size=BATCH.value,
        max_delay_ms=DELAY.value,
        max_waiting=WAITING.value,
        max_texts=TEXTS.value,
        max_body_bytes=BODY.value,
        max_explained_characters=EXPLAINED.value,
        max_connections=CONNECTIONS.value,
        read_timeout_s=READ.value,
        drain_s=DRAIN.value,
    )
    serve(
        MODEL.value or [],
        host=HOST.value,
        port=PORT.value,
        token_file=TOKEN_FILE.value,
        compute_dtype=DTYPE.value,
        limits=limits,
    )


if __name__ == "__main__":
    command_line.run(main)
