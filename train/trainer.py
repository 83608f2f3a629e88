"""TRL's SFTTrainer with the losses of this project, a token-weighted perplexity, and named learning-rate schedules."""

import math
from dataclasses import replace

import torch
from transformers import EarlyStoppingCallback
from trl import SFTTrainer
from trl.models.utils import _ForwardRedirection

import schedules
from empathy import cue_matrix, empathy_loss, expected_cues, reply_numbers
from losses import frozen_head_loss


# What some configs multiply, divide or bend logits by, and what adds the experts' balance to the loss: TRL knows those.
NOT_PLAIN = (
    *("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling"),
    "output_router_logits",
)


class SupportTrainer(SFTTrainer):
    """Cross-entropy on assistant tokens, with label smoothing and an empathy term of weight `empathy_weight`.

    With both at zero it is TRL's loss, computed in less memory; a base whose head is trained or bends its logits, or
    that has experts to balance, gets TRL's own and refuses the two terms (ValueError). `evaluate` reports `eval_loss` and `eval_perplexity` over all
    labelled tokens, unsmoothed and without the empathy term; TRL's would be a mean of batch means of the training loss.
    """

    def __init__(self, *args, label_smoothing=0.0, empathy_weight=0.0, schedule=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.label_smoothing, self.empathy_weight, self.schedule = label_smoothing, empathy_weight, schedule
        self.plain_head = has_plain_head(self.model)
        if not self.plain_head and (label_smoothing or empathy_weight):
            raise ValueError(
                f"{self.model.config.model_type} has an output head of its own kind: "
                "label_smoothing and empathy_weight must be 0 for it."
            )
        self.cues = None
        if empathy_weight:
            head = self.model.get_output_embeddings()
            self.cues = cue_matrix(self.processing_class, head.out_features, self.args.device)
        if self.accelerator.is_fsdp2 and (plugin := self.accelerator.state.fsdp_plugin).mixed_precision_policy:
            # Sums over thousands of tokens leave the model, and bfloat16 has eight bits for them.
            plugin.mixed_precision_policy = replace(plugin.mixed_precision_policy, output_dtype=None)
        self._redirect = _ForwardRedirection()
        self._eval_sums = []
        if self.padding_free or self.args.world_size > 1:
            # A packed row is a batch already; and of what several processes gather, one row a batch is counted.
            self.args.per_device_eval_batch_size = 1

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if return_outputs or not self.plain_head:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        # Through the wrapper's forward: DDP and FSDP prepare their gradients there.
        inner = self.accelerator.unwrap_model(model)
        smoothing, empathy = (self.label_smoothing, self.empathy_weight) if model.training else (0.0, 0.0)
        loss, counts = self._redirect(model, inner, self._losses, inner, inputs, smoothing, empathy)
        nll, correct, tokens = counts
        mode = "train" if model.training else "eval"
        self._metrics[mode]["mean_token_accuracy"].append((correct / tokens.clamp(min=1)).item())
        if mode == "train":
            self._count_tokens(inputs)
        else:
            self._eval_sums.append(self.accelerator.gather_for_metrics(torch.stack([nll, tokens])[None]))
        if num_items_in_batch is None:
            return loss / tokens.clamp(min=1)
        # The count is over all processes, and DDP averages gradients over them.
        scale = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        return loss * scale / num_items_in_batch

    def _losses(self, model, inputs, smoothing, empathy):
        """Return the summed loss, and nll, hits and number of the labelled tokens (float32)."""
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        labels = inputs["labels"][:, 1:]
        rest = {key: value for key, value in inputs.items() if key != "labels"}
        labelled = labels != -100
        with self.accelerator.autocast():
            hidden = base.base_model(**rest, use_cache=False).last_hidden_state[:, :-1][labelled]
            head = base.get_output_embeddings()
            # Through the head's forward as well: a sharded head is whole only there.
            return self._redirect(head, head, self._score, head, hidden, labels, labelled, smoothing, empathy)

    def _score(self, head, hidden, labels, labelled, smoothing, empathy):
        loss, nll, correct = frozen_head_loss(hidden, head.weight, labels[labelled], smoothing)
        if empathy:
            shown = empathy_loss(expected_cues(hidden, head.weight, self.cues), reply_numbers(labelled))
            loss = loss + empathy * shown
            self._metrics["train"]["empathy_loss"].append((shown.detach() / labelled.sum().clamp(min=1)).item())
        return loss, (nll, correct, labelled.sum().float())

    def _count_tokens(self, inputs):
        mask = inputs.get("attention_mask")
        read = mask.sum() if mask is not None else torch.tensor(inputs["input_ids"].numel(), device=self.args.device)
        self.state.num_input_tokens_seen += int(self.accelerator.gather(read).sum())  # in checkpoints, as TRL's is not
        self._metrics["train"]["num_tokens"] = [self.state.num_input_tokens_seen]

    def _run_epoch(self, *args, **kwargs):
        """Train an epoch, unless the run is over: resumed from its last checkpoint it would take one step more."""
        stops = [each for each in self.callback_handler.callbacks if isinstance(each, EarlyStoppingCallback)]
        early = any(each.early_stopping_patience_counter >= each.early_stopping_patience for each in stops)
        if early or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def evaluation_loop(self, *args, metric_key_prefix="eval", **kwargs):
        self._eval_sums = []
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if self._eval_sums:
            nll, tokens = torch.cat(self._eval_sums).double().sum(0).tolist()
            output.metrics[f"{metric_key_prefix}_loss"] = nll / max(tokens, 1)
        loss = output.metrics[f"{metric_key_prefix}_loss"]
        output.metrics[f"{metric_key_prefix}_perplexity"] = math.exp(min(loss, 700))
        return output

    def create_scheduler(self, num_training_steps, optimizer=None):
        if self.schedule and self.lr_scheduler is None:
            self.lr_scheduler = schedules.scheduler(self.schedule, optimizer or self.optimizer, num_training_steps)
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)


def has_plain_head(model) -> bool:
    """Say whether logits are hidden states times a frozen matrix, and nothing else."""
    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    frozen = not any(parameter.requires_grad for parameter in head.parameters())
    return frozen and head.bias is None and not any(getattr(config, name, None) for name in NOT_PLAIN)
