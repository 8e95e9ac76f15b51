// Puts the page together: queries, the live state, and the shell.
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { useState } from "react";
import { ApiError } from "~/data/client";
import { type Sources, SourcesProvider } from "~/data/context";
import { Shell } from "./Shell";

function createQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        staleTime: 2_000,
        refetchOnWindowFocus: true,
        retry: (failures, error) => failures < 2 && error instanceof ApiError && error.retryable,
      },
    },
  });
}

export function App({ sources }: { sources: Sources }) {
  const [queries] = useState(createQueryClient);
  return (
    <QueryClientProvider client={queries}>
      <SourcesProvider sources={sources}>
        <Shell />
      </SourcesProvider>
    </QueryClientProvider>
  );
}
