import { MantineProvider } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { useEffect } from "react";
import { Failure } from "@/api/failure";
import { useLanguage, useText } from "@/i18n";
import { KeyPrompt } from "./KeyPrompt";
import { nonce } from "./nonce";
import { Shell } from "./Shell";
import { schemeManager } from "./scheme";
import { theme } from "./theme";

const RETRIES = 2;

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 10_000,
      // What a server refused it refuses again; one that does not answer is waited for by the banner.
      retry: (n, error) => n < RETRIES && !(error instanceof Failure),
      refetchOnWindowFocus: true,
      networkMode: "always", // a server on this machine needs no network
    },
    mutations: { networkMode: "always" },
  },
});

const scheme = schemeManager();

export function App() {
  const language = useLanguage();
  const text = useText();
  useEffect(() => {
    document.documentElement.lang = language;
    document.title = text.app.name;
  }, [language, text]);
  return (
    <MantineProvider
      theme={theme}
      defaultColorScheme="auto"
      colorSchemeManager={scheme}
      getStyleNonce={() => nonce}
      deduplicateInlineStyles
    >
      <QueryClientProvider client={queries}>
        <Shell />
        <KeyPrompt />
        <Notifications position="bottom-right" limit={3} />
      </QueryClientProvider>
    </MantineProvider>
  );
}
