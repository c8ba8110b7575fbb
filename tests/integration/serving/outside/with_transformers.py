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

TOKENS, BATCH = 8, 25

torch.set_grad_enabled(False)
os.chdir(sys.argv[1])
chats = json.load(sys.stdin)
tokenizer = AutoTokenizer.from_pretrained("base", padding_side="left")
adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter").eval()
merged = AutoModelForCausalLM.from_pretrained("merged").eval()


def held_to(model, sequence, mask, begin):
    """The logits of a model for each token of a batch of answers, which begin at a place."""
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    kept = sequence.shape[1] - begin + 1
    return model(sequence, attention_mask=mask, position_ids=positions, logits_to_keep=kept).logits[:, :-1]


answers = []
for start in range(0, len(chats), BATCH):
    prompts = tokenizer.apply_chat_template(
        chats[start : start + BATCH], add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    begin = prompts["input_ids"].shape[1]
    asked = {"max_new_tokens": TOKENS, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    generated = adapted.generate(**prompts, **asked)
    sequence = generated.sequences
    mask = torch.cat([prompts["attention_mask"], torch.ones_like(sequence[:, begin:])], 1)
    logits = {"adapted": torch.stack(generated.logits, 1), "merged": held_to(merged, sequence, mask, begin)}
    if start == 0:  # enough to see that the adapter is no bystander
        with adapted.disable_adapter():
            logits["base"] = held_to(adapted, sequence, mask, begin)
    for row, tokens in enumerate(sequence[:, begin:].tolist()):
        length = (*tokens, tokenizer.eos_token_id).index(tokenizer.eos_token_id)
        answer = {"tokens": [tokenizer.decode(token) for token in tokens[:length]]}
        for name, values in logits.items():
            likely = values[row].log_softmax(-1).gather(1, sequence[row, begin:, None])[:, 0]
            chosen = [tokenizer.decode(token) for token in values[row].argmax(-1)[:length]]
            answer[name] = {"tokens": chosen, "logprobs": likely[:length].tolist()}
        answers.append(answer)

ours = {"gyre", "services", "schemas", "embedded"} & sys.modules.keys()
assert not ours, ours
json.dump(answers, sys.stdout)
