/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/log.h"
#include "base/option.h"

/* The command line of tdvol-csi. Texts are NULL when they were not given. */
enum plugin_role { ROLE_CONTROLLER, ROLE_NODE, ROLE_ALL };
extern const char *const plugin_roles[];

enum { PUBLICATIONS_REQUIRED, PUBLICATIONS_OFF };

struct plugin_arguments {
    int role, default_integrity, publication; /* as in the three tables of names */
    struct log_options log;
    const char *endpoint, *node_id, *driver;
    struct option_list brokers, broker_keys;
    const char *broker_name, *broker_ca, *client_cert, *client_key;
    const char *owner_token, *owner_certificate, *owner_request;
    const char *broker_policy;
#ifdef TDVOL_SIMULATOR
    const char *test_root;
#endif
    const char *local_dir, *state_dir, *tsm_root, *event_log;
    const char *upstream, *upstream_dir;
    struct option_list mount_roots, free_roots;
    const char *registration_socket, *kubelet_endpoint, *http, *user, *blockd;
    uint64_t max_volumes, workers, socket_group;
};

/* Members that were not given keep their values. INVALID_ARGUMENT names the option. */
MUST_USE bool plugin_arguments_parse(int argc, char *const *argv, struct plugin_arguments *out,
                                     struct error *err);
/* Each to standard output, when a flag asks for it: true, and the program shall end. */
bool plugin_arguments_print(int argc, char *const *argv);
