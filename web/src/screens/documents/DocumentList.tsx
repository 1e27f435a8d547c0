import { ActionIcon, TextInput, Tooltip } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { IconFileText, IconSearch, IconTrash } from "@tabler/icons-react";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { api, told } from "@/api/client";
import { Confirm } from "@/components/Confirm";
import { Section } from "@/components/Screen";
import { useFormats, useText } from "@/i18n";
import { useTable } from "@/i18n/table";
import classes from "./Documents.module.css";
import { collectionsQuery, placeOf, type StoredDocument } from "./queries";
import { texts } from "./texts";

const MANY = 8;

/** The documents of a collection. */
export function DocumentList({ collection, documents }: { collection: string; documents: readonly StoredDocument[] }) {
  const own = useTable(texts);
  const [words, setWords] = useState("");
  const [unwanted, setUnwanted] = useState<StoredDocument | null>(null);
  const wanted = words.trim().toLowerCase();
  const shown = documents.filter((one) => `${one.title} ${one.source}`.toLowerCase().includes(wanted));
  return (
    <Section title={own.list}>
      {documents.length >= MANY && (
        <TextInput
          className={classes.filter ?? ""}
          aria-label={own.filter}
          placeholder={own.filter}
          leftSection={<IconSearch size={16} aria-hidden />}
          value={words}
          onChange={(event) => setWords(event.currentTarget.value)}
        />
      )}
      {shown.length === 0 && <p className={classes.quiet}>{own.noneLike}</p>}
      <ul className={classes.documents}>
        {shown.map((one) => (
          <DocumentRow key={one.id} collection={collection} document={one} onRemove={() => setUnwanted(one)} />
        ))}
      </ul>
      {unwanted !== null && (
        <RemoveDialog collection={collection} document={unwanted} onClose={() => setUnwanted(null)} />
      )}
    </Section>
  );
}

interface RowProps {
  collection: string;
  document: StoredDocument;
  onRemove: () => void;
}

function DocumentRow({ collection, document, onRemove }: RowProps) {
  const own = useTable(texts);
  const { bytes, count, time } = useFormats();
  return (
    <li className={classes.document}>
      <IconFileText size={20} stroke={1.4} aria-hidden className={classes.faint} />
      <div className={classes.documentMain}>
        <Link href={placeOf(collection, document.id)} className={classes.documentTitle}>
          {document.title}
        </Link>
        <span className={classes.quiet}>
          {[
            document.source === document.title ? null : document.source,
            bytes(document.size_bytes),
            own.chunks(count(document.n_chunks)),
            time(document.added_at),
          ]
            .filter((part) => part !== null)
            .join(" · ")}
        </span>
        {document.notes.length > 0 && (
          <span className={classes.note}>
            {own.notes}: {document.notes.join(" ")}
          </span>
        )}
      </div>
      <Tooltip label={own.removeDocument(document.title)}>
        <ActionIcon aria-label={own.removeDocument(document.title)} onClick={onRemove}>
          <IconTrash size={16} stroke={1.6} />
        </ActionIcon>
      </Tooltip>
    </li>
  );
}

interface RemoveProps {
  collection: string;
  document: StoredDocument;
  onClose: () => void;
}

function RemoveDialog({ collection, document, onClose }: RemoveProps) {
  const text = useText();
  const own = useTable(texts);
  const queries = useQueryClient();
  const remove = useMutation({
    mutationFn: () =>
      told(
        api.DELETE("/madang/v1/collections/{name}/documents/{id}", {
          params: { path: { name: collection, id: document.id } },
        }),
      ),
    onSuccess: async () => {
      await queries.invalidateQueries({ queryKey: collectionsQuery.queryKey });
      notifications.show({ message: own.removedDocument(document.title) });
      onClose();
    },
  });
  return (
    <Confirm
      title={own.removeDocumentTitle(document.title)}
      action={text.app.remove}
      isBusy={remove.isPending}
      error={remove.error}
      onConfirm={() => remove.mutate()}
      onClose={onClose}
    >
      {own.removeDocumentWhy}
    </Confirm>
  );
}
