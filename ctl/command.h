/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One sub-command of tdvolctl. argv[0] is its last word, because the option parser skips argv[0].
 * Returns the exit code: 0 done, 1 it failed, 2 wrong usage.
 */
typedef int command_run(int argc, char *const *argv);

enum { COMMAND_DONE = 0, COMMAND_FAILED = 1, COMMAND_USAGE = 2 };

command_run command_broker_init, command_broker_backup, command_broker_migrate,
    command_broker_restore, command_broker_status, command_broker_unseal, command_broker_split,
    command_broker_rotate_master, command_broker_rotate_wrapping;
command_run command_volume_list, command_volume_show, command_volume_delete,
    command_volume_undelete, command_volume_release, command_volume_rotate, command_volume_adopt,
    command_volume_copy_in;
command_run command_quote_explain;
command_run command_policy_check, command_policy_test;
command_run command_collateral_fetch, command_collateral_show;
command_run command_attest;
command_run command_verify_make, command_verify_check;
command_run command_audit_verify, command_audit_heads, command_audit_show, command_audit_export;
command_run command_recover;
