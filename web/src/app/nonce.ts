import { setNonce } from "get-nonce";

/** The number of this page view that its policy lets style elements have. Parts that add some find it here. */
export const nonce = document.querySelector<HTMLMetaElement>('meta[name="csp-nonce"]')?.nonce ?? "";

setNonce(nonce);
