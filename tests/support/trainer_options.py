"""The verdict on each argument, constructor option and method of transformers' Trainer.

`python tests/support/trainer_options.py --write docs/trainer-options.md` writes the page.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

METRO, DATA, TUNING = "tests/metro/", "tests/data/", "tests/tuning/"
OPTIONS = f"{METRO}test_trainer_options.py::"
PASSED = f"{METRO}test_passed_arguments.py::"
TRAINER = f"{METRO}test_metro_trainer.py::"
RANKS = f"{METRO}test_ranks.py::test_three_epochs_are_the_same_on_one_rank_and_on_two"
REFUSED_BY_NAME = f"{OPTIONS}test_a_field_is_refused_by_its_name"


class Verdict(NamedTuple):
    """A verdict on an option, with the test that shows it or the reason why it has no effect."""

    kind: str
    shown: str


def honored(test: str) -> Verdict:
    return Verdict("honored", test)


def irrelevant(reason: str) -> Verdict:
    return Verdict("irrelevant", reason)


def refused(test: str = REFUSED_BY_NAME) -> Verdict:
    return Verdict("refused", test)


def _all(names: str, verdict: Verdict) -> dict[str, Verdict]:
    return dict.fromkeys(names.split(), verdict)


SCHEDULE = honored(f"{OPTIONS}test_the_schedule_is_that_of_the_arguments")
OPTIMIZER = honored(f"{OPTIONS}test_the_optimizer_has_its_settings")
EVENTS = honored(f"{OPTIONS}test_lines_evaluations_and_checkpoints_come_when_they_are_asked_for")
LOADER = honored(f"{OPTIONS}test_every_loader_has_the_options_of_workers")
HUB = honored(f"{OPTIONS}test_the_hub_gets_what_is_said")
SERVICE = honored(f"{OPTIONS}test_callbacks_of_services_get_the_arguments")
COMPILED = honored(f"{PASSED}test_compiled_training_has_the_same_losses")
DDP = honored(f"{METRO}test_ranks.py::test_options_of_ddp_reach_it")
LOG_LEVEL = honored(f"{OPTIONS}test_the_level_of_the_log_is_set")
BEST = honored(f"{TRAINER}test_load_best_model_at_end")
CHECKPOINTING = honored(f"{OPTIONS}test_activations_are_computed_again")
SCRIPTS = irrelevant("no Trainer reads it: it is for scripts that decide what to call")

FIELDS: Mapping[str, Verdict] = {
    "output_dir": honored(f"{PASSED}test_only_the_newest_checkpoints_are_kept"),
    **_all(
        "per_device_train_batch_size gradient_accumulation_steps",
        honored(f"{TRAINER}test_one_update_however_the_batch_is_cut"),
    ),
    "num_train_epochs": honored(RANKS),
    **_all("max_steps learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps", SCHEDULE),
    **_all("optim weight_decay adam_beta1 adam_beta2 adam_epsilon", OPTIMIZER),
    "optim_args": OPTIMIZER,
    "optim_target_modules": refused(),
    "average_tokens_across_devices": irrelevant(
        "the counts are always those of all ranks: "
        f"`{TRAINER}test_one_update_however_the_batch_is_cut`"
    ),
    "max_grad_norm": honored(f"{OPTIONS}test_the_gradient_is_cut_to_its_norm"),
    "bf16": honored(f"{OPTIONS}test_bf16_computes_in_bf16_and_keeps_fp32_weights"),
    "tf32": honored(f"{OPTIONS}test_tf32_is_switched"),
    **_all(
        "activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing "
        "gradient_checkpointing_kwargs",
        CHECKPOINTING,
    ),
    **_all("torch_compile torch_compile_backend torch_compile_mode", COMPILED),
    "use_cache": honored(f"{OPTIONS}test_small_switches"),
    "torch_empty_cache_steps": honored(f"{OPTIONS}test_small_switches"),
    **_all("logging_strategy logging_steps logging_first_step", EVENTS),
    **_all("log_on_each_node log_level log_level_replica", LOG_LEVEL),
    "include_num_input_tokens_seen": honored(RANKS),
    "disable_tqdm": honored(
        f"{METRO}test_progress.py::test_a_terminal_has_a_live_table_that_is_taken_down"
    ),
    "report_to": honored(f"{PASSED}test_figures_are_reported_to_services"),
    **_all("run_name project trackio_space_id trackio_bucket_id trackio_static_space_id", SERVICE),
    **_all("eval_strategy eval_steps eval_delay eval_on_start", EVENTS),
    "per_device_eval_batch_size": honored(
        f"{TRAINER}test_evaluation_is_exact_and_the_same_for_any_batch"
    ),
    "prediction_loss_only": honored(f"{OPTIONS}test_small_switches"),
    "eval_use_gather_object": irrelevant("predictions of all ranks are gathered once, as objects"),
    "eval_accumulation_steps": irrelevant("predictions go to the CPU after each batch"),
    "save_only_model": honored(f"{OPTIONS}test_a_model_alone_is_not_resumed_from"),
    **_all("save_strategy save_steps", EVENTS),
    "save_on_each_node": honored(f"{OPTIONS}test_the_level_of_the_log_is_set"),
    "push_to_hub": HUB,
    **_all(
        "hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision", HUB
    ),
    **_all("load_best_model_at_end metric_for_best_model greater_is_better", BEST),
    "restore_callback_states_from_checkpoint": honored(
        f"{OPTIONS}test_the_states_of_callbacks_are_restored"
    ),
    "full_determinism": honored(f"{OPTIONS}test_small_switches"),
    **_all("seed data_seed", honored(f"{OPTIONS}test_each_seed_has_its_part")),
    "use_cpu": honored(f"{OPTIONS}test_small_switches"),
    "accelerator_config": honored(f"{OPTIONS}test_settings_of_accelerate"),
    "dataloader_drop_last": honored(RANKS),
    **_all(
        "dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers "
        "dataloader_prefetch_factor dataloader_multiprocessing_context",
        LOADER,
    ),
    **_all(
        "train_sampling_strategy length_column_name",
        honored(f"{OPTIONS}test_rows_are_grouped_by_a_column_of_lengths"),
    ),
    **_all(
        "ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph "
        "ddp_backend",
        DDP,
    ),
    "ddp_timeout": honored(f"{OPTIONS}test_the_timeout_of_ddp_is_passed_on"),
    "debug": honored(f"{OPTIONS}test_small_switches"),
    "skip_memory_metrics": honored(f"{OPTIONS}test_small_switches"),
    **_all("do_train do_eval do_predict", SCRIPTS),
    "resume_from_checkpoint": honored(f"{OPTIONS}test_the_field_names_the_checkpoint"),
    "local_rank": irrelevant("the launcher's environment says it"),
    **_all(
        "sortish_sampler predict_with_generate generation_max_length generation_num_beams "
        "generation_config",
        refused(f"{OPTIONS}test_fields_of_another_trainer_are_refused"),
    ),
    # our own
    **_all(
        "embedding_multiplier relative_bias_multiplier",
        honored(f"{TRAINER}test_learning_rates_are_lower_for_weights_that_are_not_matrices"),
    ),
    "rms_scaled": honored(f"{METRO}test_optimizers.py::test_optimizers_train_over_our_groups"),
    "split_stream": honored(
        f"{DATA}test_streaming.py::test_two_ranks_share_a_stream_and_make_one_update"
    ),
    "sixteen_bit_weights": honored(
        f"{METRO}test_weight_types.py::"
        "test_in_bf16_most_weights_do_not_move_and_that_is_what_is_asked_for"
    ),
    **_all(
        "mlm_weight lm_weight rtd_weight",
        honored(f"{TRAINER}test_weights_of_the_arguments_are_used_and_saved"),
    ),
}
"""Every field that is not in `REFUSED`."""

REFUSED: Mapping[str, Any] = {
    "fp16": True,
    "bf16_full_eval": True,
    "fp16_full_eval": True,
    "label_smoothing_factor": 0.1,
    "use_liger_kernel": True,
    "liger_kernel_config": {"rope": True},
    "neftune_noise_alpha": 5.0,
    "auto_find_batch_size": True,
    "logging_nan_inf_filter": True,
    "eval_do_concat_batches": False,
    "include_for_metrics": ["inputs"],
    "batch_eval_metrics": True,
    "label_names": ["targets"],
    "save_total_limit": 1,
    "enable_jit_checkpoint": True,
    "ignore_data_skip": True,
    "parallelism_config": object(),
    "deepspeed": {"zero_optimization": {"stage": 2}},
    "fsdp": True,
    "fsdp_config": {"version": 2},
    "dataloader_in_order": False,
    "remove_unused_columns": True,
}
"""Fields that are refused for some values, and such a value."""

ALSO_REFUSED: Mapping[str, Any] = {
    "train_sampling_strategy": "batch_rebalance",
    "optim_args": "eps=1",
    "optim_target_modules": ["q"],
}
"""Honored fields, and a value that is refused."""

PARTLY = ("accelerator_config", "ddp_timeout")
"""Others of which some settings, or those on the CPU, are refused."""

ACCELERATE: Mapping[str, Verdict] = {
    "split_batches": refused(f"{OPTIONS}test_settings_of_accelerate"),
    "dispatch_batches": refused(f"{OPTIONS}test_settings_of_accelerate"),
    "even_batches": irrelevant(
        f"no row is ever repeated to fill a batch, and no rank runs ahead: `{RANKS}`"
    ),
    "use_seedable_sampler": irrelevant("the order of the rows depends on (seed, epoch) alone"),
    "non_blocking": honored(f"{OPTIONS}test_settings_of_accelerate"),
    "gradient_accumulation_kwargs": honored(f"{OPTIONS}test_settings_of_accelerate"),
    "use_configured_state": honored(f"{OPTIONS}test_settings_of_accelerate"),
}
"""The settings of `accelerator_config`."""

UNREAD = refused(f"{METRO}test_predictions.py::test_what_would_have_no_effect_is_refused")
CONSTRUCTOR: Mapping[str, Verdict] = {
    **_all(
        "model args data_collator train_dataset",
        honored(f"{TRAINER}test_one_update_however_the_batch_is_cut"),
    ),
    "eval_dataset": honored(f"{OPTIONS}test_evaluation_sets_by_name"),
    "processing_class": honored(f"{OPTIONS}test_methods_of_the_stock_trainer_work"),
    "model_init": refused(f"{OPTIONS}test_searches_are_refused"),
    "compute_loss_func": UNREAD,
    "compute_metrics": honored(
        f"{METRO}test_predictions.py::test_predictions_are_those_of_each_row_alone"
    ),
    "callbacks": honored(f"{METRO}test_steady.py::test_a_callback_may_draw_and_generate"),
    "optimizers": honored(f"{OPTIONS}test_an_optimizer_and_a_schedule_may_be_given"),
    "optimizer_cls_and_kwargs": honored(
        f"{METRO}test_steady.py::test_an_optimizer_that_swaps_the_weights_gets_its_own_back"
    ),
    "preprocess_logits_for_metrics": UNREAD,
}
"""The options of the constructor."""

STOCK = honored(f"{OPTIONS}test_methods_of_the_stock_trainer_work")
UPDATE = honored(f"{TRAINER}test_one_update_however_the_batch_is_cut")
INSIDE = irrelevant("the constructor or the training calls it, and it has no setting")
METHODS: Mapping[str, Verdict] = {
    **_all(
        "add_callback pop_callback remove_callback create_model_card create_optimizer "
        "create_optimizer_and_scheduler create_scheduler get_cp_size get_sp_size get_tp_size "
        "get_decay_parameter_names get_learning_rates get_num_trainable_parameters "
        "get_optimizer_cls_and_kwargs get_optimizer_group get_total_train_batch_size "
        "is_local_process_zero is_world_process_zero log log_metrics metrics_format num_examples "
        "save_metrics save_model save_state store_flos set_initial_training_values end",
        STOCK,
    ),
    **_all("compute_loss get_batch_samples training_step", UPDATE),
    "compute_loss_context_manager": honored(
        f"{OPTIONS}test_bf16_computes_in_bf16_and_keeps_fp32_weights"
    ),
    "evaluate": honored(f"{TRAINER}test_evaluation_is_exact_and_the_same_for_any_batch"),
    **_all(
        "evaluation_loop predict prediction_step",
        honored(f"{METRO}test_predictions.py::test_predictions_are_those_of_each_row_alone"),
    ),
    "floating_point_ops": honored(
        f"{METRO}test_progress.py::test_operations_of_metro_are_those_that_torch_counts"
    ),
    **_all("get_eval_dataloader get_test_dataloader get_train_dataloader", LOADER),
    **_all("init_hf_repo push_to_hub", HUB),
    "train": honored(f"{TRAINER}test_killed_and_resumed_is_bit_equal_to_unbroken"),
    **_all("call_model_init hyperparameter_search", refused(f"{OPTIONS}test_searches_are_refused")),
    **_all("autocast_smart_context_manager create_accelerator_and_postprocess", INSIDE),
    "loss_is_scaled_for_ga": irrelevant("the trainer sets it: its losses need no further division"),
}
"""The public methods and attributes of the class."""

BEGIN = "<!-- table: made by tests/support/trainer_options.py -->\n"


def verdicts() -> Mapping[str, Verdict]:
    """Every field of the training arguments."""
    return {**FIELDS, **dict.fromkeys(REFUSED, refused())}


def tables() -> str:
    """The tables of the page."""
    parts = {
        "Fields of the training arguments": verdicts(),
        "Settings of `accelerator_config`": ACCELERATE,
        "Options of the constructor": CONSTRUCTOR,
        "Methods": METHODS,
    }
    lines = []
    for title, rows in parts.items():
        kinds = [verdict.kind for verdict in rows.values()]
        counts = ", ".join(f"{kinds.count(k)} {k}" for k in ("honored", "refused", "irrelevant"))
        lines += [f"## {title}", "", f"{len(rows)} in all: {counts}.", ""]
        lines += ["| name | | shown by, or reason |", "|---|---|---|"]
        for name in sorted(rows):
            kind, shown = rows[name]
            partly = name in ALSO_REFUSED or name in PARTLY
            also = ", some values refused" if partly and kind == "honored" else ""
            text = f"`{shown}`" if shown.startswith("tests/") else shown
            lines.append(f"| `{name}` | {kind}{also} | {text} |")
        lines.append("")
    return "\n".join(lines)


def embedded(page: str) -> str:
    """The page with the tables of today."""
    return page[: page.index(BEGIN)] + BEGIN + "\n" + tables()


if __name__ == "__main__":
    if sys.argv[1:2] != ["--write"]:
        sys.exit("use --write FILE")
    file = Path(sys.argv[2])
    file.write_text(embedded(file.read_text(encoding="utf-8")), encoding="utf-8")
