/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/reason.h"

#include <stdarg.h>
#include <stdio.h>

static const char *const names[REASON_COUNT] = {
    [REASON_NONE] = "",
    [REASON_QUOTE_TOO_SHORT] = "QuoteTooShort",
    [REASON_QUOTE_TOO_LONG] = "QuoteTooLong",
    [REASON_QUOTE_VERSION] = "QuoteVersion",
    [REASON_QUOTE_KEY_TYPE] = "QuoteKeyType",
    [REASON_QUOTE_TEE_TYPE] = "QuoteTeeType",
    [REASON_QUOTE_VENDOR] = "QuoteVendor",
    [REASON_QUOTE_BODY_TYPE] = "QuoteBodyType",
    [REASON_QUOTE_BODY_SIZE] = "QuoteBodySize",
    [REASON_QUOTE_LENGTHS] = "QuoteLengths",
    [REASON_QUOTE_CERT_DATA_TYPE] = "QuoteCertDataType",
    [REASON_QUOTE_NO_PCK_CHAIN] = "QuoteNoPckChain",
    [REASON_QUOTE_TRAILING_BYTES] = "QuoteTrailingBytes",
    [REASON_PCK_CHAIN_MALFORMED] = "PckChainMalformed",
    [REASON_PCK_CHAIN_ORDER] = "PckChainOrder",
    [REASON_PCK_ROOT_UNKNOWN] = "PckRootUnknown",
    [REASON_PCK_CHAIN_UNTRUSTED] = "PckChainUntrusted",
    [REASON_PCK_CERT_EXPIRED] = "PckCertExpired",
    [REASON_PCK_CERT_REVOKED] = "PckCertRevoked",
    [REASON_PCK_KEY_TYPE] = "PckKeyType",
    [REASON_PCK_EXTENSION] = "PckExtension",
    [REASON_CRL_MALFORMED] = "CrlMalformed",
    [REASON_CRL_ISSUER] = "CrlIssuer",
    [REASON_CRL_UNTRUSTED] = "CrlUntrusted",
    [REASON_CRL_EXPIRED] = "CrlExpired",
    [REASON_COLLATERAL_MALFORMED] = "CollateralMalformed",
    [REASON_COLLATERAL_SIGNER] = "CollateralSigner",
    [REASON_COLLATERAL_SIGNER_REVOKED] = "CollateralSignerRevoked",
    [REASON_COLLATERAL_SIGNATURE] = "CollateralSignature",
    [REASON_COLLATERAL_KIND] = "CollateralKind",
    [REASON_COLLATERAL_EXPIRED] = "CollateralExpired",
    [REASON_COLLATERAL_NOT_YET_VALID] = "CollateralNotYetValid",
    [REASON_COLLATERAL_ROLLED_BACK] = "CollateralRolledBack",
    [REASON_COLLATERAL_MIXED] = "CollateralMixed",
    [REASON_FMSPC_MISMATCH] = "FmspcMismatch",
    [REASON_PCEID_MISMATCH] = "PceidMismatch",
    [REASON_TDX_MODULE_UNKNOWN] = "TdxModuleUnknown",
    [REASON_TDX_MODULE_SIGNER] = "TdxModuleSigner",
    [REASON_TDX_MODULE_ATTRIBUTES] = "TdxModuleAttributes",
    [REASON_QE_REPORT_SIGNATURE] = "QeReportSignature",
    [REASON_QE_REPORT_DATA] = "QeReportData",
    [REASON_QE_IDENTITY] = "QeIdentity",
    [REASON_QE_DEBUG] = "QeDebug",
    [REASON_ATTESTATION_KEY] = "AttestationKey",
    [REASON_QUOTE_SIGNATURE] = "QuoteSignature",
    [REASON_TCB_NOT_SUPPORTED] = "TcbNotSupported",
    [REASON_TCB_REVOKED] = "TcbRevoked",
    [REASON_TCB_OUT_OF_DATE] = "TcbOutOfDate",
    [REASON_TCB_CONFIGURATION_NEEDED] = "TcbConfigurationNeeded",
    [REASON_TCB_SW_HARDENING_NEEDED] = "TcbSwHardeningNeeded",
    [REASON_TCB_RELAUNCH_ADVISED] = "TcbRelaunchAdvised",
    [REASON_TD_DEBUG] = "TdDebug",
    [REASON_TD_ATTRIBUTES] = "TdAttributes",
    [REASON_TD_XFAM] = "TdXfam",
    [REASON_TD_SERVICE_TD] = "TdServiceTd",
    [REASON_COLLATERAL_MISSING] = "CollateralMissing",
    [REASON_CRL_ROLLED_BACK] = "CrlRolledBack",
    [REASON_EVALUATION_TOO_LOW] = "EvaluationTooLow",
    [REASON_CLOCK_ROLLED_BACK] = "ClockRolledBack",
    [REASON_REPORT_DATA] = "ReportData",
    [REASON_EVENT_LOG_MALFORMED] = "EventLogMalformed",
    [REASON_EVENT_LOG_MISMATCH] = "EventLogMismatch",
    [REASON_EVENT_LOG_MISSING] = "EventLogMissing",
    [REASON_NO_RULE] = "NoRule",
    [REASON_NOT_ATTESTED] = "NotAttested",
    [REASON_MEASUREMENT] = "Measurement",
    [REASON_IMAGE_EXPIRED] = "ImageExpired",
    [REASON_PLATFORM] = "Platform",
    [REASON_OWNER_MISSING] = "OwnerMissing",
    [REASON_OWNER_MISMATCH] = "OwnerMismatch",
    [REASON_OWNER_CERTIFICATE] = "OwnerCertificate",
    [REASON_TOKEN_MALFORMED] = "TokenMalformed",
    [REASON_TOKEN_ALGORITHM] = "TokenAlgorithm",
    [REASON_TOKEN_SIGNATURE] = "TokenSignature",
    [REASON_TOKEN_ISSUER] = "TokenIssuer",
    [REASON_TOKEN_AUDIENCE] = "TokenAudience",
    [REASON_TOKEN_SUBJECT] = "TokenSubject",
    [REASON_TOKEN_EXPIRED] = "TokenExpired",
    [REASON_QUOTE_BODY_EXTENDED] = "QuoteBodyExtended",
    [REASON_NONCE_UNKNOWN] = "NonceUnknown",
    [REASON_NONCE_EXPIRED] = "NonceExpired",
    [REASON_NONCE_USED] = "NonceUsed",
    [REASON_SEALING_KEY] = "SealingKey",
};

const char *attest_reason_name(enum attest_reason reason)
{
    return (unsigned)reason < REASON_COUNT ? names[reason] : "";
}

bool attest_refuse(struct error *err, enum attest_reason reason, const char *fmt, ...)
{
    char text[sizeof(err->text)];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return error_set_reason(err, ERROR_DENIED, attest_reason_name(reason), "%s", text);
}
