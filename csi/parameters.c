/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/parameters.h"

#include "base/option.h"
#include "record/fs_type.h"

#include <string.h>

#define KUBERNETES_PREFIX "csi.storage.k8s.io/"

const char *const parameters_integrity_names[] = { "auto", "aegis128", "hmac-sha256", "none",
                                                   NULL };
static const char *const provisioning_names[] = { "thick", "thin", NULL };
static const enum provisioning provisionings[] = { PROVISIONING_THICK, PROVISIONING_THIN };
static const char *const switch_names[] = { "off", "on", NULL };
static const char *const journal_names[] = { "on", "off", NULL };
static const char *const fencing_names[] = { "none", "suspend", NULL }; /* as enum fencing */
static const char *const workqueue_names[] = { "auto", "on", "off", NULL };
static const enum workqueue workqueues[] = { WORKQUEUE_AUTO, WORKQUEUE_ON, WORKQUEUE_OFF };

static const struct option rows[] = {
    OPTION_CHOICE_ROW("integrity", struct parameters, integrity, parameters_integrity_names,
                      "How changes of the stored data are noticed: aegis128 or hmac-sha256 "
                      "authenticate every sector, none only encrypts; auto (default) is what the "
                      "plugin's --default-integrity says."),
    OPTION_CHOICE_ROW(
        "provisioning", struct parameters, provisioning, provisioning_names,
        "thick (default) reserves the whole space of the volume when it is created; "
        "thin takes space as it is written, and writes fail when there is none left."),
    OPTION_CHOICE_ROW("discard", struct parameters, discard, switch_names,
                      "on passes discards to the storage, which then knows what is unused; with "
                      "integrity=none only (default off)."),
    OPTION_CHOICE_ROW(
        "journal", struct parameters, journal, journal_names,
        "on (default) keeps data and tag together when the machine crashes; off writes each byte "
        "once instead of twice, but after a crash sectors, or the whole volume, may be unreadable: "
        "for data that can be made again. off needs acceptLossAfterCrash=true."),
    OPTION_BOOL_ROW("acceptLossAfterCrash", struct parameters, accept_loss,
                    "true says that you know what journal=off means (default false)."),
    OPTION_CHOICE_ROW("workqueue", struct parameters, workqueue, workqueue_names,
                      "off encrypts in the thread that reads or writes, on hands the work to other "
                      "processors; auto (default) is off, but on for hmac-sha256."),
    OPTION_CHOICE_ROW(
        "fencing", struct parameters, fencing, fencing_names,
        "suspend makes a node that is cut off from the broker stop the volume before its "
        "lease is over, so that another node can have it; the policy says after how many "
        "seconds. none (default) leaves it running; see docs/fencing.md."),
    OPTION_TEXT_ROW(KUBERNETES_PREFIX "fstype", struct parameters, fs_type, "TYPE",
                    "ext4 (default) or xfs, where the volume capability does not say it."),
};

/* Keys that external-provisioner and external-snapshotter add with --extra-create-metadata, and keys
 * for sidecars, which CreateVolume gets never, but GetCapacity always. */
static const char *const ignored[] = {
    KUBERNETES_PREFIX "pv/",
    KUBERNETES_PREFIX "pvc/",
    KUBERNETES_PREFIX "volumesnapshot/",
    KUBERNETES_PREFIX "volumesnapshotcontent/",
    KUBERNETES_PREFIX "provisioner-secret-",
    KUBERNETES_PREFIX "controller-publish-secret-",
    KUBERNETES_PREFIX "controller-expand-secret-",
    KUBERNETES_PREFIX "controller-modify-secret-",
    KUBERNETES_PREFIX "node-stage-secret-",
    KUBERNETES_PREFIX "node-publish-secret-",
    KUBERNETES_PREFIX "node-expand-secret-",
};

static bool has_prefix(const char *key)
{
    return strncmp(key, PARAMETERS_PREFIX, strlen(PARAMETERS_PREFIX)) == 0;
}

static bool set(struct parameters *parameters, const char *key, const char *value,
                struct error *err)
{
    const char *name = has_prefix(key) ? key + strlen(PARAMETERS_PREFIX) : key;

    return option_set(rows, ARRAY_LEN(rows), parameters, name, value, err) ||
           error_wrap(err, "parameters");
}

bool parameters_set(struct parameters *parameters, const char *key, const char *value,
                    struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
        if (strncmp(key, ignored[i], strlen(ignored[i])) == 0)
            return true;
    return set(parameters, key, value, err);
}

bool parameters_take(struct parameters *parameters, const char *key, const char *value, bool *taken,
                     struct error *err)
{
    *taken = has_prefix(key) || strcmp(key, KUBERNETES_PREFIX "fstype") == 0;
    if (!*taken)
        return true;
    if (strcmp(key, PARAMETERS_PREFIX "provisioning") == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "parameters: %s is for local volumes; the driver below has its own way",
                         key);
    return set(parameters, key, value, err);
}

static bool check_journal(const struct parameters *parameters, struct error *err)
{
    if (parameters->journal == 0)
        return true;
    if (parameters->integrity == (int)INTEGRITY_NONE)
        return error_set(
            err, ERROR_INVALID_ARGUMENT,
            "parameters: journal=off needs aegis128 or hmac-sha256: integrity=none has "
            "no journal");
    if (!parameters->accept_loss)
        return error_set(
            err, ERROR_INVALID_ARGUMENT,
            "parameters: with journal=off a crash of the node can make sectors, or the "
            "whole volume, unreadable; if its data can be made again, set "
            "acceptLossAfterCrash=true, too");
    return true;
}

bool parameters_check(const struct parameters *parameters, struct error *err)
{
    enum fs_type type;

    if (parameters->fs_type[0] != '\0' && !fs_type_find(parameters->fs_type, &type))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "parameters: %sfstype \"%s\" is not supported; choose " FS_TYPE_CHOICES,
                         KUBERNETES_PREFIX, parameters->fs_type);
    if (parameters->discard && parameters->integrity != (int)INTEGRITY_NONE)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "parameters: discard=on needs integrity=none: a discarded sector of an "
                         "authenticated volume cannot be read");
    return check_journal(parameters, err);
}

struct volume_spec parameters_spec(const struct parameters *parameters,
                                   enum integrity default_integrity)
{
    enum integrity integrity = parameters->integrity == PARAMETER_INTEGRITY_AUTO
                                   ? default_integrity
                                   : (enum integrity)parameters->integrity;

    return (struct volume_spec){
        .integrity = integrity,
        .provisioning = provisionings[parameters->provisioning],
        .discard = parameters->discard != 0,
        .no_journal = parameters->journal != 0 && integrity != INTEGRITY_NONE,
        .workqueue = workqueues[parameters->workqueue],
        .fencing = (enum fencing)parameters->fencing,
    };
}

void parameters_print_markdown(void)
{
    option_print_markdown(rows, ARRAY_LEN(rows));
}
