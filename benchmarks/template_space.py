"""The Space that most people copy, as a peer for benchmarks/load.py: ChatInterface, and a thread of `generate` for each reply.

It is written here from the pattern in the transformers and Gradio guides (TextIteratorStreamer; chatbot with streaming), with the
embedded base, our reply length and our sampling, so that only the serving differs. It screens nothing.
"""

import os
import sys
from pathlib import Path
from threading import Thread

import gradio as gr
from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer


sys.path.insert(0, str(Path(__file__).parents[1] / "space"))

from base_model import resolve
from engine import MAX_NEW_TOKENS, SAMPLING


folder = resolve()
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")


def reply(message: str, history: list[dict]):
    messages = [{"role": turn["role"], "content": text_of(turn["content"])} for turn in history]
    prompt = tokenizer.apply_chat_template(
        [*messages, {"role": "user", "content": message}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    Thread(
        target=model.generate, kwargs={**prompt, "streamer": streamer, "max_new_tokens": MAX_NEW_TOKENS, **SAMPLING}
    ).start()
    said = ""
    for piece in streamer:
        said += piece
        yield said


def text_of(content) -> str:
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


if __name__ == "__main__":
    # As many at once as come: with Gradio's default of one, the second person would wait for the whole first reply.
    page = gr.ChatInterface(reply, concurrency_limit=None, analytics_enabled=False)
    page.launch(server_port=int(os.environ["GRADIO_SERVER_PORT"]), quiet=True)
