import { Button, Group, Modal, Select, Text, TextInput } from "@mantine/core";
import { IconBooks, IconPlus } from "@tabler/icons-react";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { Link, useLocation } from "wouter";
import { api, told } from "@/api/client";
import { Loaded } from "@/components/Loaded";
import { Screen } from "@/components/Screen";
import { EmptyState, FailureText } from "@/components/States";
import { useFormats, useText } from "@/i18n";
import { useTable } from "@/i18n/table";
import { modelsQuery } from "../models/queries";
import classes from "./Documents.module.css";
import { type Collection, collectionsQuery, placeOf } from "./queries";
import { texts } from "./texts";

/** All collections of the caller. */
export function Collections() {
  const text = useText();
  const own = useTable(texts);
  const collections = useQuery(collectionsQuery);
  const [isMaking, setMaking] = useState(false);
  const make = (
    <Button leftSection={<IconPlus size={16} />} onClick={() => setMaking(true)}>
      {own.create}
    </Button>
  );
  const hasSome = (collections.data?.collections.length ?? 0) > 0;
  return (
    <Screen title={text.screens.documents} actions={hasSome ? make : undefined}>
      <Loaded of={collections}>
        {({ collections: all }) =>
          all.length === 0 ? (
            <EmptyState icon={IconBooks} title={own.none} action={make}>
              {own.noneWhy}
            </EmptyState>
          ) : (
            <ul className={classes.cards}>
              {all.map((collection) => (
                <CollectionCard key={collection.name} collection={collection} />
              ))}
            </ul>
          )
        }
      </Loaded>
      {isMaking && <CreateDialog onClose={() => setMaking(false)} />}
    </Screen>
  );
}

function CollectionCard({ collection }: { collection: Collection }) {
  const own = useTable(texts);
  const { count, bytes, time } = useFormats();
  return (
    <li>
      <Link href={placeOf(collection.name)} className={classes.card}>
        <h2 className={classes.cardName}>{collection.name}</h2>
        <span>
          {own.documents(count(collection.n_documents))} · {own.chunks(count(collection.n_chunks))} ·{" "}
          {bytes(collection.size_bytes)}
        </span>
        <span className={classes.quiet}>
          {collection.embedding_model} · {own.changed(time(collection.updated_at))}
        </span>
      </Link>
    </li>
  );
}

function CreateDialog({ onClose }: { onClose: () => void }) {
  const text = useText();
  const own = useTable(texts);
  const queries = useQueryClient();
  const [, go] = useLocation();
  const [name, setName] = useState("");
  const [model, setModel] = useState("");
  const models = useQuery(modelsQuery);
  const embedders = (models.data?.models ?? []).filter((one) => one.capabilities.includes("embedding"));
  const create = useMutation({
    mutationFn: () =>
      told(
        api.POST("/madang/v1/collections", {
          body: { name: name.trim(), ...(model !== "" && { embedding_model: model }) },
        }),
      ),
    onSuccess: async (made) => {
      await queries.invalidateQueries({ queryKey: collectionsQuery.queryKey });
      onClose();
      go(placeOf(made.name));
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (name.trim() !== "") create.mutate();
  };
  return (
    <Modal opened onClose={onClose} title={own.create} closeButtonProps={{ "aria-label": text.app.close }}>
      <form onSubmit={submit} className={classes.form}>
        <TextInput
          label={own.name}
          description={own.nameHint}
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
          error={create.isError}
          maxLength={256}
          autoComplete="off"
          data-autofocus
        />
        <Select
          label={own.model}
          description={own.modelHint}
          data={[
            { value: "", label: own.modelDefault },
            ...embedders.map((one) => ({ value: one.name, label: one.name })),
          ]}
          value={model}
          onChange={(value) => setModel(value ?? "")}
          allowDeselect={false}
        />
        {create.isError && (
          <Text size="sm" c="var(--page-bad)" role="alert">
            <FailureText error={create.error} />
          </Text>
        )}
        <Group justify="flex-end">
          <Button variant="default" onClick={onClose}>
            {text.app.cancel}
          </Button>
          <Button type="submit" loading={create.isPending} disabled={name.trim() === ""}>
            {own.createDo}
          </Button>
        </Group>
      </form>
    </Modal>
  );
}
