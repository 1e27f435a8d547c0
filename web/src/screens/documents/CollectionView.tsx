import { ActionIcon, Menu } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { IconDots, IconTrash } from "@tabler/icons-react";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { useLocation } from "wouter";
import { api, told } from "@/api/client";
import { useStore } from "@/app/store";
import { Confirm } from "@/components/Confirm";
import { Loaded } from "@/components/Loaded";
import { Screen } from "@/components/Screen";
import { useFormats, useText } from "@/i18n";
import { useTable } from "@/i18n/table";
import { BackLink } from "./BackLink";
import { DocumentList } from "./DocumentList";
import { DropArea } from "./DropArea";
import { ProgressList } from "./ProgressList";
import { collectionsQuery, documentsQuery, ingestsQuery } from "./queries";
import { SearchTest } from "./SearchTest";
import { texts } from "./texts";
import { addFiles, isOver, progressOf, uploads } from "./uploads";

const LOOK_MS = 400;

/** One collection: fill it, look through it, and try what it would find. */
export function CollectionView({ name }: { name: string }) {
  const own = useTable(texts);
  const { count } = useFormats();
  const queries = useQueryClient();
  const documents = useQuery(documentsQuery(name));
  const rows = useProgress(name);
  const add = (files: Iterable<File>) =>
    addFiles(name, files, () => void queries.invalidateQueries({ queryKey: ingestsQuery.queryKey }));
  const nDocuments = documents.data?.documents.length;
  return (
    <Screen
      title={name}
      actions={
        <CollectionMenu name={name} documents={own.documents(nDocuments === undefined ? "?" : count(nDocuments))} />
      }
    >
      <BackLink href="/documents">{own.back}</BackLink>
      <Loaded of={documents}>
        {({ documents: all }) => (
          <DropArea name={name} isEmpty={all.length === 0 && rows.length === 0} onFiles={add}>
            <ProgressList rows={rows} />
            {all.length > 0 && (
              <>
                <SearchTest name={name} />
                <DocumentList collection={name} documents={all} />
              </>
            )}
          </DropArea>
        )}
      </Loaded>
    </Screen>
  );
}

/** What is on its way into a collection. When one is through, its lists look again. */
function useProgress(name: string) {
  const queries = useQueryClient();
  const given = useStore(uploads);
  const { data } = useQuery({
    ...ingestsQuery,
    refetchInterval: (query) => (query.state.data?.ingests.some((one) => !isOver(one.state)) ? LOOK_MS : false),
  });
  const rows = progressOf(name, given, data?.ingests ?? []);
  const nOver = (data?.ingests ?? []).filter((one) => one.collection === name && isOver(one.state)).length;
  useEffect(() => {
    if (nOver > 0) void queries.invalidateQueries({ queryKey: collectionsQuery.queryKey });
  }, [nOver, queries]);
  return rows;
}

function CollectionMenu({ name, documents }: { name: string; documents: string }) {
  const text = useText();
  const own = useTable(texts);
  const queries = useQueryClient();
  const [, go] = useLocation();
  const [isAsking, setAsking] = useState(false);
  const remove = useMutation({
    mutationFn: () => told(api.DELETE("/madang/v1/collections/{name}", { params: { path: { name } } })),
    onSuccess: async () => {
      go("/documents");
      notifications.show({ message: own.removedCollection(name) });
      queries.removeQueries({ queryKey: ["collections", name] });
      await queries.invalidateQueries({ queryKey: collectionsQuery.queryKey, exact: true });
    },
  });
  return (
    <>
      <Menu position="bottom-end">
        <Menu.Target>
          <ActionIcon size="lg" variant="default" aria-label={own.more(name)}>
            <IconDots size={18} />
          </ActionIcon>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Item color="red" leftSection={<IconTrash size={16} />} onClick={() => setAsking(true)}>
            {own.removeCollection}
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
      {isAsking && (
        <Confirm
          title={own.removeCollectionTitle(name)}
          action={text.app.remove}
          isBusy={remove.isPending}
          error={remove.error}
          onConfirm={() => remove.mutate()}
          onClose={() => setAsking(false)}
        >
          {own.removeCollectionWhy(documents)}
        </Confirm>
      )}
    </>
  );
}
