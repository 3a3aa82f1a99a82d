/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "master/shares.h"

/*
 * Where a broker's master key comes from: KIND:WHERE. A source without the key yet is asked again, and
 * the broker is sealed until then. One thread gets the key; others may add to it meanwhile.
 *
 *   file:PATH         64 hex digits, closed to others
 *   fd:N              the same from a file descriptor, to its end
 *   credential:NAME   the same from a credential of systemd (LoadCredential=, LoadCredentialEncrypted=)
 *   vault:URL         Vault's transit engine unwraps it (master/vault.h)
 *   kbs:URL           Trustee's Key Broker Service gives it to this TD (master/kbs.h)
 *   peer:HOST:PORT    another broker gives it to this TD (master/peer.h); or administrators, as below
 *   unseal:           administrators bring it, whole or in shares (tdvolctl broker unseal)
 */
struct master_source;

struct master_source_options {
    const char *spec;                             /* without a kind it is a path */
    const char *vault_token, *vault_ca, *wrapped; /* files, for vault */
    const char *kbs_ca;                           /* a file, for kbs; NULL: the system's CAs */
    const char *peer_ca, *peer_name; /* for peer; see peer_options, likewise the next */
    const char *owner_token;
    const char *tsm_root, *event_log; /* as in attester_options, for kbs and peer */
};

/* The files' names must outlive the source. INVALID_ARGUMENT names the kinds. */
MUST_USE bool master_source_new(const struct master_source_options *options,
                                struct master_source **out, struct error *err);
void master_source_free(struct master_source **source);
#define auto_master_source CLEANUP(master_source_free)

/* UNAVAILABLE: the key is not there yet, and the text says what for it waits. Other errors stay until
 * somebody mends what they name. A key that came in shares is handed out once. */
MUST_USE bool master_source_get(struct master_source *source, struct secret *out,
                                struct error *err);

/* The key of a source that has it at once: for commands. */
MUST_USE bool master_source_read(const char *spec, struct secret *out, struct error *err);

/* Tells that the key was not the right one, and why. A remote source is then not asked again at once. */
void master_source_refuse(struct master_source *source, const struct error *why);

/* How far the unsealing is. */
struct master_progress {
    unsigned have, need; /* shares; need counts only when there is one */
};
/* UNAVAILABLE: what the broker waits for. */
bool master_progress_say(const struct master_progress *progress, struct error *err);

/* Takes the master key itself, 64 hex digits, or one of its shares. When the last share makes no key, all
 * are dropped: INVALID_ARGUMENT, as for a share of another set or a second one of the same number.
 * FAILED_PRECONDITION when the key comes from elsewhere. */
MUST_USE bool master_source_add(struct master_source *source, const struct secret *text,
                                struct master_progress *out, struct error *err);
