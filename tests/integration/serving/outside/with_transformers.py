"""Opens an export with transformers and peft, and nothing of Gyre: `with_transformers.py FOLDER < chats > answers`.

Answers each chat greedily with base and adapter, then holds the merged model, and the base alone, to the answers token
by token: which token it would have chosen where, and how likely it finds the one that was.
"""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

TOKENS, BATCH = 16, 25

torch.set_num_threads(2)
torch.set_grad_enabled(False)
os.chdir(sys.argv[1])
chats = json.load(sys.stdin)
tokenizer = AutoTokenizer.from_pretrained("base", padding_side="left")
base = AutoModelForCausalLM.from_pretrained("base").eval()
adapted = PeftModel.from_pretrained(base, "adapter").eval()
merged = AutoModelForCausalLM.from_pretrained("merged").eval()


def held_to(model, sequence, mask, begin):
    """Of each token from a place on, what the model would have chosen and how likely it finds the one that is there."""
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(sequence, attention_mask=mask, position_ids=positions).logits[:, begin - 1 : -1]
    likely = logits.log_softmax(-1).gather(2, sequence[:, begin:, None])[:, :, 0]
    return logits.argmax(-1).tolist(), likely.tolist()


answers = []
for start in range(0, len(chats), BATCH):
    prompts = tokenizer.apply_chat_template(
        chats[start : start + BATCH], add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    begin = prompts["input_ids"].shape[1]
    sequence = adapted.generate(**prompts, max_new_tokens=TOKENS, do_sample=False)
    mask = torch.cat([prompts["attention_mask"], torch.ones_like(sequence[:, begin:])], 1)
    found = {"adapted": held_to(adapted, sequence, mask, begin), "merged": held_to(merged, sequence, mask, begin)}
    with adapted.disable_adapter():
        found["base"] = held_to(adapted, sequence, mask, begin)
    for row, tokens in enumerate(sequence[:, begin:].tolist()):
        length = (*tokens, tokenizer.eos_token_id).index(tokenizer.eos_token_id)
        answer = {"tokens": tokens[:length]}
        for name, (chosen, likely) in found.items():
            answer[name] = {"tokens": chosen[row][:length], "logprobs": likely[row][:length]}
        answers.append(answer)

ours = {"gyre", "services", "schemas", "embedded"} & sys.modules.keys()
assert not ours, ours
json.dump(answers, sys.stdout)
