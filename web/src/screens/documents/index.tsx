import { Screen } from "@/components/Screen";
import { EmptyState } from "@/components/States";
import { useText } from "@/i18n";

export default function Documents() {
  const text = useText();
  return (
    <Screen title={text.screens.documents}>
      <EmptyState title={text.app.notBuilt} />
    </Screen>
  );
}
