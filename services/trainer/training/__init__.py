"""How a specialist is trained.

`configuration` says what a run is made of and is importable anywhere. Everything else here needs torch, transformers,
peft or ray, and is imported only inside the training process (`python -m services.trainer.run`) and its Ray workers.

    configuration  the complete, typed value that a run is made from
    examples       dataset rows → token ids; the order of batches
    model          the base model, cut at a layer; LoRA; the adapter on disk
    cached_activations   what the frozen lower layers say about every row, computed once
    loop           the steps of one worker: from a checkpoint or from nothing, to the last step
    ray_run        Ray started, the workers run and restarted, Ray gone
    progress       where a run says how far it is
"""
