/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/arguments.h"

#include "attest/attester.h"
#include "attest/collateral_set.h"

#include <stdio.h>
#include <tdvol_config.h>

const char *const broker_file_names[BROKER_FILE_COUNT] = {
    [BROKER_CERTIFICATE] = "broker.crt", [BROKER_PRIVATE_KEY] = "broker.key",
    [BROKER_CLIENT_CA] = "ca.crt",       [BROKER_POLICY] = "policy.json",
    [BROKER_AUDIT] = "audit.jsonl",
};

static const struct option table[] = {
    OPTION_TEXT_ROW(
        "dir", struct broker_arguments, dir, "DIR",
        "The broker's folder. Only one broker may use it at a time. It holds the store and the "
        "next five files, unless their options name other places.",
        .required = true),
    OPTION_TEXT_ROW(
        "store", struct broker_arguments, store, "KIND:WHERE",
        "Where records and wrapped keys are stored: sqlite:FOLDER, of one broker alone (a missing "
        "folder is created); or etcd:https://HOST:PORT, for several brokers at once: name all "
        "members of the etcd cluster, separated by commas. Default sqlite:DIR."),
    OPTION_TEXT_ROW(
        "store-ca", struct broker_arguments, store_ca, "FILE",
        "The CA certificates that etcd's members are checked with, PEM. This file and "
        "the next two are needed for a store in etcd, and read again when they change."),
    OPTION_TEXT_ROW("store-cert", struct broker_arguments, store_cert, "FILE",
                    "The broker's client certificate for etcd, PEM."),
    OPTION_TEXT_ROW("store-key", struct broker_arguments, store_key, "FILE",
                    "The private key of --store-cert, PEM, mode 0600."),
    OPTION_TEXT_ROW("replica", struct broker_arguments, replica, "NAME",
                    "The name of this broker among those that share a store in etcd, which needs "
                    "it: letters, digits, -, _ and . Each broker has a name and an audit log of "
                    "its own. A second process with the same name stops the first."),
    OPTION_TEXT_ROW(
        "listen", struct broker_arguments, listen, "HOST:PORT",
        "Address for gRPC over TLS 1.3; port 0 picks one and logs it. 0.0.0.0, [::], * and no HOST "
        "all mean every address of the machine, IPv4 and IPv6. For one family alone give an "
        "address of it.",
        .required = true),
    OPTION_TEXT_ROW("cert", struct broker_arguments, files[BROKER_CERTIFICATE], "FILE",
                    "The broker's certificate, PEM, with an EC key; default DIR/broker.crt. This "
                    "file and the next two are read again when they change."),
    OPTION_TEXT_ROW("key", struct broker_arguments, files[BROKER_PRIVATE_KEY], "FILE",
                    "The certificate's private key, PEM, mode 0600; default DIR/broker.key."),
    OPTION_TEXT_ROW("client-ca", struct broker_arguments, files[BROKER_CLIENT_CA], "FILE",
                    "The CA certificates that client certificates are checked with, roots and "
                    "intermediates, PEM; default DIR/ca.crt."),
    OPTION_TEXT_ROW(
        "policy", struct broker_arguments, files[BROKER_POLICY], "FILE",
        "The policy: who may do what, JSON; read again on SIGHUP; default DIR/policy.json."),
    OPTION_TEXT_ROW("audit", struct broker_arguments, files[BROKER_AUDIT], "FILE",
                    "The audit log, JSON lines that are signed in a chain; opened again on SIGHUP; "
                    "default DIR/audit.jsonl."),
    OPTION_TEXT_ROW(
        "audit-key", struct broker_arguments, audit_key, "FILE",
        "Signs a new audit log with keys from this key, 64 hex digits, instead of the master key. "
        "Needed at the first start only: then keep it elsewhere, to check the log with."),
    OPTION_TEXT_ROW(
        "master-key", struct broker_arguments, master_key, "KIND:WHERE",
        "Where the master key comes from, 64 hex digits (openssl rand -hex 32): file:PATH, or just "
        "the path, mode 0600; fd:N, a file descriptor; credential:NAME, from systemd; "
        "vault:https://HOST:8200/v1/transit/decrypt/KEY, unwrapped by Vault; "
        "kbs:https://HOST/REPOSITORY/TYPE/TAG, from Trustee's KBS for this TD's quote; "
        "peer:HOST:PORT[,HOST:PORT...], from another broker for this TD's quote; unseal:, "
        "from administrators, perhaps in shares (tdvolctl broker unseal). Until it has the key "
        "the broker is sealed. Keep it apart from the store and its backups. Default unseal:."),
    OPTION_TEXT_ROW("vault-token", struct broker_arguments, vault_token, "FILE",
                    "For --master-key vault: the token, mode 0600; read at each try."),
    OPTION_TEXT_ROW("vault-ca", struct broker_arguments, vault_ca, "FILE",
                    "The CA certificates that Vault is checked with, PEM; default: the system's."),
    OPTION_TEXT_ROW("wrapped-key", struct broker_arguments, wrapped_key, "FILE",
                    "For --master-key vault: what the transit engine made of the master key, "
                    "vault:v1:..., mode 0600."),
    OPTION_TEXT_ROW(
        "kbs-ca", struct broker_arguments, kbs_ca, "FILE",
        "The CA certificates that the KBS is checked with, PEM; default: the system's."),
    OPTION_TEXT_ROW("peer-ca", struct broker_arguments, peer_ca, "FILE",
                    "For --master-key peer: the only CA certificates that may sign the peers' "
                    "certificates, PEM."),
    OPTION_TEXT_ROW("peer-name", struct broker_arguments, peer_name, "NAME",
                    "The name in the peers' certificates; default: the host of each address."),
    OPTION_TEXT_ROW("owner-token", struct broker_arguments, owner_token, "FILE",
                    "For --master-key peer: a service account's token, which proves the owner; "
                    "read at each try."),
    OPTION_TEXT_ROW("tsm-root", struct broker_arguments, tsm_root, "DIR",
                    "For quotes of the broker's own TD: the folder of configfs-tsm, which takes "
                    "root or CAP_DAC_OVERRIDE; default " ATTESTER_TSM_ROOT "."),
    OPTION_TEXT_ROW("event-log", struct broker_arguments, event_log, "FILE",
                    "The event log of that TD; default " ATTESTER_CCEL_PATH "."),
    OPTION_TEXT_ROW("old-master-key", struct broker_arguments, old_master_key, "KIND:WHERE",
                    "Changes the master key: where the former one comes from (file, fd, credential "
                    "or vault), while --master-key names the new one. See \"tdvolctl broker "
                    "rotate-master\". Not needed any more when that has ended."),
    OPTION_TEXT_ROW("old-wrapped-key", struct broker_arguments, old_wrapped_key, "FILE",
                    "The same as --wrapped-key, for --old-master-key vault."),
    OPTION_U64_ROW("master-key-fd", struct broker_arguments, master_key_fd, 0, 1023, "N",
                   "The same as --master-key fd:N."),
    OPTION_U64_ROW("format-deadline-s", struct broker_arguments, format_deadline_s, 1, 86400,
                   "SECONDS",
                   "How long one node may format a new volume. Later another node may format it. "
                   "Default 600."),
    OPTION_U64_ROW("session-lifetime-s", struct broker_arguments, session_lifetime_s, 1, 86400,
                   "SECONDS",
                   "How long a session lasts after a client has attested. Later it must attest "
                   "again. Default 900."),
    OPTION_U64_ROW(
        "attest-rate", struct broker_arguments, attest_rate, 1, 100000, "N",
        "How many nonces per second one address may ask for, and twice as many at once. A "
        "client needs one nonce per session. Raise this number when many nodes share an "
        "address. Default 10."),
    OPTION_TEXT_ROW(
        "collateral-dir", struct broker_arguments, collateral_dir, "FOLDER",
        "A folder with Intel's collateral, to verify quotes: one set, or folders with one "
        "set each. Read again on SIGHUP."),
    OPTION_TEXT_ROW(
        "collateral-bundle", struct broker_arguments, collateral_bundle, "FILE",
        "Intel's collateral as one JSON file with any number of sets. Read again on SIGHUP."),
    OPTION_TEXT_ROW("pccs", struct broker_arguments, pccs, "URL",
                    "Fetches collateral from here: a PCCS, or Intel's " PCS_URL_INTEL "."),
    OPTION_TEXT_ROW("pccs-ca", struct broker_arguments, pccs_ca, "FILE",
                    "The CA certificates that --pccs is checked with, PEM; default: the system's."),
    OPTION_BOOL_ROW("collateral-early", struct broker_arguments, collateral_early,
                    "Asks --pccs for the newest TCB data at once, not after Intel's grace period."),
#ifdef TDVOL_SIMULATOR
    OPTION_TEXT_ROW(
        "test-root", struct broker_arguments, test_root, "FILE",
        "SIMULATOR BUILD ONLY: trusts this root certificate, DER, in place of Intel's."),
#endif
    OPTION_TEXT_ROW("http", struct broker_arguments, http, "HOST:PORT",
                    "Address for /healthz, /readyz and /metrics, as for --listen. Default: not "
                    "served."),
    OPTION_U64_ROW("workers", struct broker_arguments, workers, 1, 64, "N",
                   "How many calls are handled at the same time; default 4."),
    LOG_OPTION_ROWS(struct broker_arguments, log, "text"),
};

void broker_arguments_help(void)
{
    puts("tdvol-broker: keeps the keys and records of tdvol volumes, and releases a volume's key\n"
         "to the nodes that the policy allows.\n"
         "\n"
         "First time:   tdvolctl broker init DIR     makes CA, certificates, master key, policy\n"
         "Start:        tdvol-broker --dir DIR --listen HOST:PORT --master-key DIR/master.key\n"
         "Signals:      SIGTERM finishes the calls in flight and stops; SIGHUP reads policy and\n"
         "              collateral again (a bad file changes nothing), and opens the audit log\n"
         "              again, for rotation.\n"
         "Audit:        tdvol-broker --check-audit FILE...  checks whole logs, the oldest first\n"
         "Migration:    tdvol-broker --migrate --help       copies a store into etcd\n"
         "Restore:      tdvol-broker --restore --help       makes a store out of a backup\n"
         "\n"
         "The broker needs no privileges, except for quotes of its own TD (--tsm-root): run it as\n"
         "its own user.\n"
         "\n"
         "Options:");
    option_print_help(table, ARRAY_LEN(table));
    puts("  --migrate FROM TO [OPTIONS]\n"
         "        Copies a store into a new one, and exits: see tdvol-broker --migrate --help.\n"
         "  --restore FILE STORE [OPTIONS]\n"
         "        Makes a store out of a backup, and exits: see tdvol-broker --restore --help.\n"
         "  --check-audit FILE... [--with-key FILE]\n"
         "        Checks audit logs and exits; with the master key or the --audit-key, whichever\n"
         "        the log began with, also each line's MAC.\n"
         "  --version\n        Prints the version.");
}

bool broker_arguments_parse(int argc, char **argv, struct broker_arguments *out, struct error *err)
{
    *out = (struct broker_arguments){ .master_key_fd = BROKER_NO_FD,
                                      .format_deadline_s = 600,
                                      .session_lifetime_s = 900,
                                      .attest_rate = 10,
                                      .workers = 4,
                                      .log = { LOG_FORMAT_TEXT, LOG_INFO } };
    return option_parse(table, ARRAY_LEN(table), out, argc, argv, NULL, err);
}
