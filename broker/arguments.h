/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/log.h"
#include "base/option.h"

/* The command line of tdvol-broker. Texts are NULL when they were not given. */
#define BROKER_NO_FD UINT64_MAX

enum broker_file {
    BROKER_CERTIFICATE,
    BROKER_PRIVATE_KEY,
    BROKER_CLIENT_CA,
    BROKER_POLICY,
    BROKER_AUDIT,
    BROKER_FILE_COUNT
};
/* Their names in --dir, where no option names another place. */
extern const char *const broker_file_names[BROKER_FILE_COUNT];

struct broker_arguments {
    const char *dir, *store, *store_ca, *store_cert, *store_key, *replica, *listen, *master_key,
        *vault_token, *vault_ca, *wrapped_key, *old_master_key, *old_wrapped_key, *kbs_ca, *peer_ca,
        *peer_name, *owner_token, *tsm_root, *event_log, *audit_key, *files[BROKER_FILE_COUNT];
    const char *collateral_dir, *collateral_bundle, *pccs, *pccs_ca, *http;
#ifdef TDVOL_SIMULATOR
    const char *test_root;
#endif
    uint64_t master_key_fd, format_deadline_s, session_lifetime_s, attest_rate, workers;
    bool collateral_early;
    struct log_options log;
};

/* Numbers that were not given get their defaults. INVALID_ARGUMENT names the option. */
MUST_USE bool broker_arguments_parse(int argc, char **argv, struct broker_arguments *out,
                                     struct error *err);
/* To standard output. */
void broker_arguments_help(void);
