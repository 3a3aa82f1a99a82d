/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/judged_call.h"

#include "keybroker.pb-c.h"

/* The handlers of broker/service.c's table that have files of their own. */

#define M(name) Tdvol__Keybroker__V1__##name /* generated message types */

/* Makes a record what everybody may see who asks for it: without what only the store and the worker may have,
 * and with the time that its format has left by this broker's clock. */
void record_to_tell(const struct judged_call *s, struct record *r);

/* The answer of nearly every call: the record's bytes, in the arena. The rest of a format attempt is
 * sent as a duration, because the clocks of broker and node differ. */
MUST_USE bool answer_record(const struct judged_call *s, const struct record *r,
                            ProtobufCBinaryData *out, struct error *err);

/* broker/opening.c */
bool unseal(struct judged_call *s, struct rpc_call *call, const M(UnsealRequest) * request,
            M(UnsealResponse) * response, struct error *err);

/* broker/replicate.c */
bool replicate(struct judged_call *s, struct rpc_call *call, const M(ReplicateRequest) * request,
               M(ReplicateResponse) * response, struct error *err);

/* broker/statement.c */
bool get_statement(struct judged_call *s, struct rpc_call *call,
                   const M(GetStatementRequest) * request, M(GetStatementResponse) * response,
                   struct error *err);

/* broker/wrapping.c. The first one is a part of GetStatus, for an open broker. */
bool wrapping_status(struct judged_call *s, M(GetStatusResponse) * response, struct error *err);
bool rotate_wrapping(struct judged_call *s, struct rpc_call *call,
                     const M(RotateWrappingRequest) * request, M(RotateWrappingResponse) * response,
                     struct error *err);

/* broker/leasing.c */
bool renew_lease(struct judged_call *s, struct rpc_call *call, const M(RenewLeaseRequest) * request,
                 M(RenewLeaseResponse) * response, struct error *err);
bool take_over_lease(struct judged_call *s, struct rpc_call *call,
                     const M(TakeOverLeaseRequest) * request, M(TakeOverLeaseResponse) * response,
                     struct error *err);
bool release_lease(struct judged_call *s, struct rpc_call *call,
                   const M(ReleaseLeaseRequest) * request, M(ReleaseLeaseResponse) * response,
                   struct error *err);
bool publish_record(struct judged_call *s, struct rpc_call *call,
                    const M(PublishRecordRequest) * request, M(PublishRecordResponse) * response,
                    struct error *err);
bool unpublish_record(struct judged_call *s, struct rpc_call *call,
                      const M(UnpublishRecordRequest) * request,
                      M(UnpublishRecordResponse) * response, struct error *err);

/* broker/creation.c */
bool create_record(struct judged_call *s, struct rpc_call *call,
                   const M(CreateRecordRequest) * request, M(CreateRecordResponse) * response,
                   struct error *err);
bool begin_copy(struct judged_call *s, struct rpc_call *call, const M(BeginCopyRequest) * request,
                M(BeginCopyResponse) * response, struct error *err);
bool end_copy(struct judged_call *s, struct rpc_call *call, const M(EndCopyRequest) * request,
              M(EndCopyResponse) * response, struct error *err);
bool copy_record(struct judged_call *s, struct rpc_call *call, const M(CopyRecordRequest) * request,
                 M(CopyRecordResponse) * response, struct error *err);
bool adopt_record(struct judged_call *s, struct rpc_call *call,
                  const M(AdoptRecordRequest) * request, M(AdoptRecordResponse) * response,
                  struct error *err);
/* broker/backup.c */
bool backup(struct judged_call *s, struct rpc_call *call, const M(BackupRequest) * request,
            M(BackupResponse) * response, struct error *err);

/* broker/restored.c */
bool adopt_restored(struct judged_call *s, struct rpc_call *call,
                    const M(AdoptRestoredRequest) * request, M(AdoptRestoredResponse) * response,
                    struct error *err);
bool end_restore(struct judged_call *s, struct rpc_call *call, const M(EndRestoreRequest) * request,
                 M(EndRestoreResponse) * response, struct error *err);

/* broker/deletion.c */
bool begin_delete(struct judged_call *s, struct rpc_call *call, const M(DeleteRequest) * request,
                  M(DeleteResponse) * response, struct error *err);
bool cancel_delete(struct judged_call *s, struct rpc_call *call, const M(DeleteRequest) * request,
                   M(DeleteResponse) * response, struct error *err);
bool finish_delete(struct judged_call *s, struct rpc_call *call, const M(DeleteRequest) * request,
                   M(DeleteResponse) * response, struct error *err);
bool undelete_record(struct judged_call *s, struct rpc_call *call, const M(DeleteRequest) * request,
                     M(DeleteResponse) * response, struct error *err);
bool erase_record(struct judged_call *s, struct rpc_call *call, const M(DeleteRequest) * request,
                  M(DeleteResponse) * response, struct error *err);
bool describe_record(struct judged_call *s, struct rpc_call *call,
                     const M(DescribeRecordRequest) * request, M(DescribeRecordResponse) * response,
                     struct error *err);

/* broker/creation.c, too */
bool rotate_key(struct judged_call *s, struct rpc_call *call, const M(RotateKeyRequest) * request,
                M(RotateKeyResponse) * response, struct error *err);
