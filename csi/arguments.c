/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/arguments.h"

#include "blockd/launch.h"
#include "csi/parameters.h"

#include <stdio.h>
#include <string.h>
#include <tdvol_config.h>

#define PROGRAM "tdvol-csi"

const char *const plugin_roles[] = { "controller", "node", "all", NULL };
static const char *const publication_rules[] = { "required", "off", NULL };

static const struct option table[] = {
    OPTION_CHOICE_ROW("role", struct plugin_arguments, role, plugin_roles,
                      "What to serve: the controller's calls, the node's, or all (default)."),
    OPTION_TEXT_ROW("endpoint", struct plugin_arguments, endpoint, "unix:///PATH",
                    "Socket for CSI; default is the environment's CSI_ENDPOINT."),
    OPTION_U64_ROW(
        "socket-group", struct plugin_arguments, socket_group, 0, UINT32_MAX - 1, "GID",
        "Group that may use the CSI socket, for sidecars that do not run as root. Default "
        "0: root alone."),
    OPTION_TEXT_ROW("node-id", struct plugin_arguments, node_id, "NAME",
                    "Name of this node, as Kubernetes knows it.", .required = true),
    OPTION_TEXT_ROW(
        "driver-name", struct plugin_arguments, driver, "NAME",
        "Name of the CSI driver; part of every volume's id, so never change it. Default "
        "csi.tdvol.dev."),
    OPTION_LIST_ROW(
        "broker", struct plugin_arguments, brokers, "HOST:PORT",
        "Address of the key broker; repeatable, or several separated by commas. They are tried in "
        "this order, and the one that answers is kept. Required."),
    OPTION_TEXT_ROW("broker-name", struct plugin_arguments, broker_name, "NAME",
                    "Name in the broker's certificate, when it is not HOST."),
    OPTION_TEXT_ROW("broker-ca", struct plugin_arguments, broker_ca, "FILE",
                    "CA certificate of the key broker, PEM; no other is trusted.",
                    .required = true),
    OPTION_LIST_ROW("broker-key-sha256", struct plugin_arguments, broker_keys, "HEX",
                    "SHA-256 of the broker's TLS public key (SubjectPublicKeyInfo); repeatable. "
                    "Default: every key that the CA signed."),
    OPTION_TEXT_ROW(
        "broker-policy", struct plugin_arguments, broker_policy, "FILE",
        "A policy whose rules say which TDs may be the key broker: it must then show a quote over its "
        "key that fits one, or nothing that it says is used. Read again when it changes. Default: "
        "the CA's signature is enough."),
#ifdef TDVOL_SIMULATOR
    OPTION_TEXT_ROW(
        "test-root", struct plugin_arguments, test_root, "FILE",
        "SIMULATOR BUILD ONLY: the root certificate, DER, for the broker's quote in place "
        "of Intel's."),
#endif
    OPTION_TEXT_ROW("client-cert", struct plugin_arguments, client_cert, "FILE",
                    "Our certificate for the key broker, PEM. Default: a key that is made at the "
                    "start and attested by a quote of this Trust Domain."),
    OPTION_TEXT_ROW("client-key", struct plugin_arguments, client_key, "FILE",
                    "Its private key, PEM, mode 0600."),
    OPTION_TEXT_ROW(
        "owner-token", struct plugin_arguments, owner_token, "FILE",
        "A service account's token that tells who owns this Trust Domain; --user reads it again "
        "for each attestation."),
    OPTION_TEXT_ROW("owner-request", struct plugin_arguments, owner_request, "FILE",
                    "Where to write the certificate request for the key made at the start, for the "
                    "owner's CA to sign."),
    OPTION_TEXT_ROW("owner-certificate", struct plugin_arguments, owner_certificate, "FILE",
                    "Certificate that the owner's CA signed for that request, PEM; may appear "
                    "later. --user reads it."),
    OPTION_TEXT_ROW("local-dir", struct plugin_arguments, local_dir, "DIR",
                    "Folder of the volumes' files; default /var/lib/tdvol/volumes."),
    OPTION_TEXT_ROW(
        "upstream", struct plugin_arguments, upstream, "unix:///PATH",
        "Socket of another CSI driver, whose block volumes are encrypted here: its controller's for "
        "--role=controller, its node plugin's for --role=node. Default: the volumes are files in "
        "--local-dir."),
    OPTION_TEXT_ROW("upstream-dir", struct plugin_arguments, upstream_dir, "DIR",
                    "Folder in which that driver stages its volumes for us; both must see it at "
                    "this path. Default: plugins/DRIVER/upstream in the first --mount-root."),
    OPTION_CHOICE_ROW(
        "publication", struct plugin_arguments, publication, publication_rules,
        "Whether a node can open a new volume of --upstream only while the volume is attached to it: "
        "required (default), or off for a driver that attaches no volumes, such as ceph-csi and "
        "TopoLVM. For --role=controller; a copy has it from its source."),
    OPTION_TEXT_ROW("state-dir", struct plugin_arguments, state_dir, "DIR",
                    "Folder of locks, on a tmpfs; default /run/tdvol."),
    OPTION_LIST_ROW("mount-root", struct plugin_arguments, mount_roots, "DIR",
                    "Kubelet's folder. Below it only the places are taken at which kubelet has "
                    "volumes of this driver staged and published; repeatable; default "
                    "/var/lib/kubelet."),
    OPTION_LIST_ROW("free-mount-root", struct plugin_arguments, free_roots, "DIR",
                    "Folder below which every staging and target path is taken, for callers other "
                    "than kubelet; repeatable. A tdvol-csi that was taken over can then mount over "
                    "every empty folder and file below it, and remove them."),
    OPTION_TEXT_ROW("tsm-root", struct plugin_arguments, tsm_root, "DIR",
                    "Folder of configfs-tsm, for quotes; default " ATTESTER_TSM_ROOT "."),
    OPTION_TEXT_ROW("event-log", struct plugin_arguments, event_log, "FILE",
                    "The firmware's event log; default " ATTESTER_CCEL_PATH "."),
    OPTION_TEXT_ROW("registration-socket", struct plugin_arguments, registration_socket, "PATH",
                    "Socket at which kubelet finds the plugin: "
                    "/var/lib/kubelet/plugins_registry/NAME-reg.sock. Default: not served."),
    OPTION_TEXT_ROW("kubelet-endpoint", struct plugin_arguments, kubelet_endpoint, "PATH",
                    "Path of the CSI socket as kubelet sees it; default is that of --endpoint."),
    OPTION_TEXT_ROW("http", struct plugin_arguments, http, "HOST:PORT",
                    "Address for /healthz, /readyz and /metrics. 0.0.0.0, [::], * and no HOST all "
                    "mean every address of the machine, IPv4 and IPv6. For one family alone give "
                    "an address of it. Default: not served."),
    OPTION_U64_ROW("max-volumes", struct plugin_arguments, max_volumes, 0, 100000, "N",
                   "Volumes that fit on this node; 0 leaves it to Kubernetes. Default 256."),
    OPTION_U64_ROW("workers", struct plugin_arguments, workers, 2, 256, "N",
                   "Calls handled at the same time; default 20."),
    OPTION_CHOICE_ROW("default-integrity", struct plugin_arguments, default_integrity,
                      parameters_integrity_names,
                      "What integrity=auto of a StorageClass means; default aegis128. Give the "
                      "same value on every node."),
    OPTION_TEXT_ROW("user", struct plugin_arguments, user, "NAME",
                    "User that the plugin becomes after its start as root; default nobody."),
    OPTION_TEXT_ROW("blockd", struct plugin_arguments, blockd, "PATH",
                    "The program tdvol-blockd; default is the one beside this program."),
    LOG_OPTION_ROWS(struct plugin_arguments, log, "json"),
};

static void print_help(void)
{
    puts("tdvol-csi: encrypted, authenticated volumes for Kubernetes, as a CSI plugin.\n"
         "\n"
         "Runs as root in the DaemonSet, starts tdvol-blockd, and then becomes --user.\n"
         "SIGTERM finishes the calls in flight and stops; volumes stay mounted.\n"
         "\n"
         "Options:");
    option_print_help(table, ARRAY_LEN(table));
    puts("  --help-parameters\n        Prints the StorageClass parameters as a Markdown table.\n"
         "  --version\n        Prints the version.");
}

static bool has_flag(int argc, char *const *argv, const char *flag)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], flag) == 0)
            return true;
    return false;
}

bool plugin_arguments_print(int argc, char *const *argv)
{
    if (option_wants_help(argc, argv))
        print_help();
    else if (has_flag(argc, argv, "--version"))
        puts(PROGRAM " " TDVOL_RELEASE);
    else if (has_flag(argc, argv, "--help-parameters"))
        parameters_print_markdown();
    else
        return false;
    return true;
}

bool plugin_arguments_parse(int argc, char *const *argv, struct plugin_arguments *out,
                            struct error *err)
{
    return option_parse(table, ARRAY_LEN(table), out, argc, argv, NULL, err);
}
