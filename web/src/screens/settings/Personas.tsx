import { ActionIcon, Button, Group, Modal, Stack, Text, Textarea, TextInput, UnstyledButton } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { IconPlus, IconTrash } from "@tabler/icons-react";
import { queryOptions, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { api, type Schemas, told } from "@/api/client";
import { ErrorState, FailureText } from "@/components/States";
import { useText } from "@/i18n";
import classes from "./settings.module.css";

type Persona = Schemas["PersonaState"];

const personasQuery = queryOptions({
  queryKey: ["personas"],
  queryFn: async () => (await told(api.GET("/madang/v1/personas"))).personas,
});

const NEW: Persona = { name: "", style: "", system: "", model: null, collections: [] };

export function Personas() {
  const text = useText();
  const queries = useQueryClient();
  const personas = useQuery(personasQuery);
  const [edited, setEdited] = useState<Persona | null>(null);

  const keep = async (persona: Persona) => {
    await told(api.POST("/madang/v1/personas", { body: persona }));
    await queries.invalidateQueries({ queryKey: personasQuery.queryKey });
  };
  const remove = async (persona: Persona) => {
    try {
      await told(api.DELETE("/madang/v1/personas/{name}", { params: { path: { name: persona.name } } }));
      await queries.invalidateQueries({ queryKey: personasQuery.queryKey });
    } catch (error) {
      notifications.show({ color: "red", message: <FailureText error={error} /> });
      return;
    }
    const id = `persona ${persona.name}`;
    const takeBack = () => {
      notifications.hide(id);
      void keep(persona);
    };
    notifications.show({
      id,
      message: (
        <Group justify="space-between" wrap="nowrap">
          {text.settings.personaRemoved(persona.name)}
          <Button size="compact-sm" variant="subtle" onClick={takeBack}>
            {text.app.undo}
          </Button>
        </Group>
      ),
    });
  };

  if (personas.isError) return <ErrorState error={personas.error} onRetry={() => void personas.refetch()} />;
  return (
    <Stack gap="sm" align="flex-start">
      <Text size="sm" c="var(--page-faint)">
        {personas.data?.length === 0 ? text.settings.personaNone : null} {text.settings.personasWhy}
      </Text>
      <ul className={classes.personas}>
        {personas.data?.map((persona) => (
          <li key={persona.name}>
            <UnstyledButton onClick={() => setEdited(persona)}>
              <b>{persona.name}</b> <span>{persona.style || persona.system}</span>
            </UnstyledButton>
            <ActionIcon aria-label={`${text.app.remove}: ${persona.name}`} onClick={() => void remove(persona)}>
              <IconTrash size={16} stroke={1.6} />
            </ActionIcon>
          </li>
        ))}
      </ul>
      <Button variant="default" size="sm" leftSection={<IconPlus size={16} />} onClick={() => setEdited(NEW)}>
        {text.settings.personaNew}
      </Button>
      {edited !== null && <Editor persona={edited} onKeep={keep} onClose={() => setEdited(null)} />}
    </Stack>
  );
}

interface EditorProps {
  persona: Persona;
  onKeep: (persona: Persona) => Promise<void>;
  onClose: () => void;
}

function Editor({ persona, onKeep, onClose }: EditorProps) {
  const text = useText();
  const [typed, setTyped] = useState(persona);
  const [failure, setFailure] = useState<unknown>(null);
  const keep = async (event: FormEvent) => {
    event.preventDefault();
    try {
      await onKeep({ ...typed, name: typed.name.trim() });
      onClose();
    } catch (error) {
      setFailure(error);
    }
  };
  return (
    <Modal
      opened
      onClose={onClose}
      title={persona === NEW ? text.settings.personaNew : persona.name}
      closeButtonProps={{ "aria-label": text.app.close }}
    >
      <form onSubmit={(event) => void keep(event)}>
        <Stack gap="sm">
          <TextInput
            label={text.settings.personaName}
            value={typed.name}
            disabled={persona !== NEW}
            data-autofocus
            onChange={(event) => setTyped({ ...typed, name: event.currentTarget.value })}
          />
          <TextInput
            label={text.settings.personaStyle}
            placeholder={text.settings.personaStyleHint}
            value={typed.style ?? ""}
            onChange={(event) => setTyped({ ...typed, style: event.currentTarget.value })}
          />
          <Textarea
            label={text.settings.personaSystem}
            rows={5}
            value={typed.system ?? ""}
            onChange={(event) => setTyped({ ...typed, system: event.currentTarget.value })}
          />
          {failure !== null && (
            <Text size="sm" c="red" role="alert">
              <FailureText error={failure} />
            </Text>
          )}
          <Button type="submit" disabled={typed.name.trim() === ""}>
            {text.app.save}
          </Button>
        </Stack>
      </form>
    </Modal>
  );
}
